"""How a suite is called and ends: arguments, the parts that are wanted, the folder for its files."""

import argparse
import shutil
import sys
from pathlib import Path


def parser(description):
    """Knows the arguments that every suite takes."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--stanzad", required=True, help="the server's binary")
    found.add_argument("--tools", required=True, type=Path, help="folder that the script filled")
    found.add_argument("--only", help="run the parts whose name contains this")
    found.add_argument("--keep", action="store_true", help="keep the temporary folder")
    return found


def wanted(parts, only):
    """The parts whose name contains `only`, or all. Ends the program if there are none."""
    found = {name: part for name, part in parts.items() if not only or only in name}
    if not found:
        sys.exit(f"no part has {only} in its name; there are {', '.join(parts)}")
    return found


def close(report, folder, keep):
    """Removes the folder if nobody wants to look into it, and yields the exit status."""
    if report.failed or keep:
        print(f"\nThe logs are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return report.close()
