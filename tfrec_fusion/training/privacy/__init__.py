"""Private training: DP-SGD whose unit is the user, its accountant, and the report of what was spent.

Each step of training takes every user independently with probability `q` (Poisson sampling), and with
`g_u` the gradient of all that is read of user `u`, moves by

    ( sum_u g_u min(1, C / |g_u|) + N(0, (sigma C)^2 I) ) / (q n),

`C` being `clip`, `sigma` the noise multiplier and `n` the number of users. One user more or less changes the
sum by at most `C`, so that a step is a Poisson-sampled Gaussian mechanism and all steps together spend what
the accountant says of that mechanism composed with itself.

References: Abadi et al., 2016, https://arxiv.org/abs/1607.00133 (DP-SGD); McMahan et al., 2018,
https://arxiv.org/abs/1710.06963 (the user as unit); Mironov, 2017, https://arxiv.org/abs/1702.07476 (Rényi
differential privacy); Koskela et al., 2020, https://arxiv.org/abs/1906.03049 (privacy loss distributions).
"""
