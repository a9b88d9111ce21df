"""`python -m tfrec_fusion.serving.server`: the embedded server as a process."""

import sys

from tfrec_fusion.serving.server.embedded import main

if __name__ == "__main__":
    sys.exit(main())
