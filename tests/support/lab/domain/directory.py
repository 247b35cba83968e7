"""Fills the directory of a new domain: `directory.py SMB_CONF`, with the people, sites and subnets as JSON on stdin.

Runs with the Python of the machine, which has Samba's own modules, before the controller is started. In one go, because
samba-tool takes a second for each user. Imports nothing of the project.
"""

import json
import sys

from samba import sites, subnets
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB


def main() -> None:
    configuration, wanted = sys.argv[1], json.load(sys.stdin)
    parameters = LoadParm()
    parameters.load(configuration)
    directory = SamDB(session_info=system_session(), lp=parameters)
    place = str(directory.get_config_basedn())
    for site in wanted["sites"]:
        sites.create_site(directory, place, site)
    for subnet, site in wanted["subnets"].items():
        subnets.create_subnet(directory, place, subnet, site)
    directory.transaction_start()
    for name, password in wanted["people"].items():
        directory.newuser(name, password)
    directory.transaction_commit()


if __name__ == "__main__":
    main()
