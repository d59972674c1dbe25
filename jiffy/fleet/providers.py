"""The provider that a fleet's file names. Each is loaded only where it is used."""

from __future__ import annotations

from jiffy.datadir import DataDirectory
from jiffy.fleet.base import Provider
from jiffy.fleet.settings import FleetSettings


def open_provider(settings: FleetSettings, fleet_id: str, data: DataDirectory) -> Provider:
    """`fleet_id` marks the machines: whatever has it and is not known is taken down. UnsupportedError when what it takes is
    not installed."""
    if settings.ec2 is not None and settings.provider == "ec2":
        from jiffy.fleet.ec2 import Ec2Provider

        return Ec2Provider(settings.ec2, fleet_id, settings.package)
    if settings.gce is not None and settings.provider == "gce":
        from jiffy.fleet.gce import GceProvider

        return GceProvider(settings.gce, fleet_id, settings.package)
    if settings.kubernetes is not None and settings.provider == "kubernetes":
        from jiffy.fleet.kubernetes import KubernetesProvider

        return KubernetesProvider(settings.kubernetes, fleet_id)
    from jiffy.fleet.local import LocalProvider

    return LocalProvider(data.root / "fleet")
