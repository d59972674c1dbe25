"""What a new machine of a cloud does when it boots: cloud-init installs jiffy, and a service joins the worker.

When the worker ends in good order, because it was told to or because there is no server any more, the machine powers off.
"""

from __future__ import annotations

import json
import shlex
from typing import Final

from jiffy.fleet.base import Join

_PACKAGES: Final = ("crun", "iproute2", "nftables", "python3-venv")
_HOME: Final = "/opt/jiffy"
_SERVICE: Final = """[Unit]
Description=jiffy worker
After=network-online.target
Wants=network-online.target
SuccessAction=poweroff

[Service]
EnvironmentFile=/etc/jiffy/worker.env
ExecStart={command}
Restart=on-failure
RestartSec=1
TimeoutStopSec=150
KillMode=mixed

[Install]
WantedBy=multi-user.target
"""


def cloud_config(join: Join, package: str) -> str:
    """For cloud-init. `package` is what pip installs."""
    command = shlex.join([f"{_HOME}/bin/jiffy", "worker", *join.options()])
    return "#cloud-config\n" + json.dumps(
        {
            "package_update": True,
            "packages": list(_PACKAGES),
            "write_files": [
                {
                    "path": "/etc/jiffy/worker.env",
                    "permissions": "0600",
                    "content": f"JIFFY_WORKER_TOKEN={join.token}\n",
                },
                {
                    "path": "/etc/systemd/system/jiffy-worker.service",
                    "permissions": "0644",
                    "content": _SERVICE.format(command=command),
                },
            ],
            "runcmd": [
                ["python3", "-m", "venv", _HOME],
                [f"{_HOME}/bin/pip", "install", package],
                ["systemctl", "enable", "--now", "jiffy-worker.service"],
            ],
        },
        indent=1,
    )
