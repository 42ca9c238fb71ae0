"""The device and the threads of a worker: those of its machine, as far as the run requires none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl_nas.errors import ConfigurationError


@dataclass(frozen=True)
class WorkerRuntime:
    """Device and threads that the user of a worker asks for.

    Attributes:
        device: an argument of `torch.device`; None: what the run requires, or else the machine's GPU if it has one.
        threads: CPU threads of torch; None: what the run requires, or else torch's default on the machine.
    """

    device: str | None = None
    threads: int | None = None

    def settings(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """Return the section ``runtime`` for this worker, with the device that it uses.

        Precision and memory format are those of the run: they change results more than the device does.

        Args:
            description: of the queue; ``identity`` contains the device and threads that the run's user asked for.

        Raises:
            ConfigurationError: this machine does not have the device, or the run requires another kind of device.
        """
        from automl_nas.evaluation import Runtime

        required: dict[str, Any] = {"device": "auto", "threads": None}
        required |= description.get("identity", {}).get("runtime", {})
        device: str = self.device or required["device"]
        kinds = {name.partition(":")[0] for name in (device, required["device"])}
        if len(kinds - {"auto"}) > 1:
            raise ConfigurationError(
                f"the run requires the device '{required['device']}' (its runtime.device), and this worker was started "
                f"with --device {device}; start it with --device {required['device']}, or begin a run with device: auto"
            )
        if device == "auto":
            device = required["device"]
        section = {**description["config"]["runtime"], "device": device, "threads": self.threads or required["threads"]}
        try:
            return Runtime(**section).settings()
        except ConfigurationError as error:
            if required["device"] == "auto":
                raise ConfigurationError(f"--device {device}: {error.message}") from None
            raise ConfigurationError(
                f"the run requires the device '{required['device']}' (its runtime.device): "
                f"{error.message.partition(';')[0]}; start workers on machines that have it, or begin a run with "
                "device: auto"
            ) from None
