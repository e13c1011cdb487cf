"""Hugging Face: a network with `save_pretrained`, `from_pretrained` and `push_to_hub`.

    adapter.Network(code, "mini-cls", weights="net.safetensors").save_pretrained("folder")
    adapter.Network.from_pretrained("folder", code=code, task="mini-cls")

The folder's `model.safetensors` is a file of `nasbench_mr.weights`, which says what it is of.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench_mr import __version__, network, space, tasks
from nasbench_mr import weights as trained
from nasbench_mr.errors import ReleaseNotFoundError
from nasbench_mr.extras import requires

with requires("hub", "the adapter of Hugging Face", {"huggingface_hub": "0.30"}):
    from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
    from huggingface_hub.errors import HFValidationError
    from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self

    from huggingface_hub import ModelCard

#: The file of the weights, as the hub names it.
FILE = "model.safetensors"
#: What a folder's README.md says.
CARD = """---
{{ card_data }}
---

The network {{ code }} of nasbench-mr, for the task {{ task }}{% if metrics %}: {{ metrics }}{% endif %}.

```python
from nasbench_mr.integrations.hub import Network

network = Network.from_pretrained("{{ repo_id | default("FOLDER", true) }}")
```
"""


class Network(  # type: ignore[misc, unused-ignore]
    nn.Module,
    PyTorchModelHubMixin,
    library_name="nasbench-mr",
    tags=["neural-architecture-search"],
    model_card_template=CARD,
):
    """The network of a code for a task, as `network.build` makes it.

    >>> import tempfile
    >>> code, folder = nasbench_mr.load("mini").codes("mini-cls")[0], tempfile.mkdtemp()
    >>> Network(code, "mini-cls").save_pretrained(folder)
    >>> Network.from_pretrained(folder).trained.task
    'mini-cls'

    Args:
        code, task, width_mult, weights: see `network.build`.

    Attributes:
        trained: what the weights are of; `save_pretrained` writes it. Replace it when you train on.

    Raises:
        InvalidArgumentError: the weights are of another code, task or width; `from_pretrained` checks its
            `code` and `task`, if given.
        UnknownTaskError, OutOfSpaceError, IntegrityError: see `network.build`.
    """

    def __init__(
        self,
        code: object,
        task: str | tasks.Task,
        *,
        width_mult: float | None = None,
        weights: str | os.PathLike[str] | None = None,
    ):
        super().__init__()
        self.network = network.build(code, task, width_mult, weights=weights)
        self.trained = self._untrained(task, width_mult) if weights is None else trained.read(weights)
        #: What the hub shows of it, beside what the file says.
        self._hub_mixin_config = {"code": space.to_string(self.trained.code), "task": self.trained.task}

    def _untrained(self, task: str | tasks.Task, width_mult: float | None) -> trained.Trained:
        described = tasks.get(task) if isinstance(task, str) else task
        return trained.Trained(
            code=self.network.code,
            task=described.name,
            seed=0,
            recipe="",
            digest="",
            metrics={},
            width_mult=described.width_mult if width_mult is None else width_mult,
            stem_strides=(2, 2),
            version=__version__,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return what the task's head says of a batch; see `network.MultiResolutionNet`."""
        out: Tensor = self.network(x)
        return out

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card that `save_pretrained` and `push_to_hub` write."""
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in self.trained.metrics.items())
        about = {"code": space.to_string(self.trained.code), "task": self.trained.task, "metrics": metrics}
        return super().generate_model_card(*args, **about, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Return the network in a folder that `save_pretrained` wrote, or in a repository of the hub.

        Args:
            pretrained_model_name_or_path: the folder, or "NAME/REPOSITORY".
            options: `code` and `task`, to be checked, and those of `PyTorchModelHubMixin.from_pretrained`.

        Raises:
            ReleaseNotFoundError: it is neither a folder nor the name of a repository.
            InvalidArgumentError, IntegrityError: see `Network`.
        """
        where = pretrained_model_name_or_path
        try:
            made: Self = super().from_pretrained(where, **options)
        except HFValidationError:
            raise ReleaseNotFoundError(
                f"no network in {os.fspath(where)!r}: expected a folder that save_pretrained wrote, or a "
                "repository of the hub, NAME/REPOSITORY"
            ) from None
        return made

    def _save_pretrained(self, save_directory: Path) -> None:
        trained.save(save_directory / FILE, self.network, self.trained)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        code: object = None,
        task: str | tasks.Task | None = None,
        map_location: str = "cpu",
        **where: Any,
    ) -> Self:
        local = os.path.isdir(model_id)
        file = os.path.join(model_id, FILE) if local else hf_hub_download(model_id, FILE, **where)
        told = trained.read(file)
        made = cls(told.code if code is None else code, told.task if task is None else task, weights=file)
        return made.eval().to(map_location)
