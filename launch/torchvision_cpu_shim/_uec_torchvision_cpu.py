"""Lets a torchvision that is linked against CUDA be imported beside a CPU build of torch.

Its compiled part cannot be loaded there, so the operator `torchvision::nms` is never defined, and `import torchvision`
ends in "operator torchvision::nms does not exist" - which takes vLLM and transformers down with it. The Python part,
which is all that they use, needs no compiled operator: it is enough that the two operators it names are declared.

A .pth file loads this in every interpreter of the environment (vLLM starts some of its own). It costs nothing until
torchvision is first looked for. `launch/setup.sh` installs it, and only where `import torchvision` fails.
"""

import importlib.abc
import sys

LIBRARIES = []  # torch forgets the operators of a library that is garbage
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Finds nothing: it sees the first import of torchvision, declares what is missing, and goes away."""

    def find_spec(self, fullname, path, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)  # before torch is imported, which looks for modules itself
            import torch

            if torch.version.cuda is None:
                library = torch.library.Library("torchvision", "DEF")
                for name in ("nms", "qnms"):
                    library.define(name + SCHEMA)
                LIBRARIES.append(library)
        return None


sys.meta_path.insert(0, DeclareOperators())
