import sys

import mltable

frame = mltable.load(sys.argv[1]).to_pandas_dataframe()
with open(sys.argv[2], "w") as file:
    file.write(f"{len(frame)} {int(frame['count'].sum())}")
