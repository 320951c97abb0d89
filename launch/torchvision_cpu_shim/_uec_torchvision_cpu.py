"""Make a torchvision that is linked against CUDA importable with a CPU build of torch.

The compiled part of torchvision cannot be loaded there, so the operator `torchvision::nms` is never defined, and `import torchvision` fails
with "operator torchvision::nms does not exist", and so do vLLM and transformers. They use only the Python part, which needs no compiled
operator, but the two operators that it names must be declared.

A .pth file loads this module in every interpreter of the environment, also in the processes that vLLM starts. It costs nothing before the
first import of torchvision. `launch/setup.sh` installs it only if `import torchvision` fails.
"""

import importlib.abc
import sys

LIBRARIES = []  # torch drops the operators of a library that is garbage-collected
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareOperators(importlib.abc.MetaPathFinder):
    """An import hook that declares the operators at the first import of torchvision, removes itself, and finds no module."""

    def find_spec(self, fullname, path, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)  # before the import of torch, which calls the import hooks again
            import torch

            if torch.version.cuda is None:
                library = torch.library.Library("torchvision", "DEF")
                for name in ("nms", "qnms"):
                    library.define(name + SCHEMA)
                LIBRARIES.append(library)
        return None


sys.meta_path.insert(0, DeclareOperators())
