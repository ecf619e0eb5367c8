import os
import sys

open(sys.argv[1], "w").write(str(os.listdir(".").count("only.py")))
