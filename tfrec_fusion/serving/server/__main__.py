"""`python -m tfrec_fusion.serving.server`: the embedded server as a process."""

import logging
import os
import sys

from tfrec_fusion.serving.server.embedded import main

if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Python would wait for threads that still run a model, as long as these take
