"""`python -m jiffy`"""

from jiffy.cli import main

main()
