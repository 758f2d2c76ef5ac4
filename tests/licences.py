"""Which licences packages, weights and assets may have, and which one a package has by its own word."""

import re
from importlib.metadata import Distribution

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC",
    "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip

# Packages whose metadata say too little, or whose licence is on no list: the pattern of a name, the licence, and why.
EXCEPTIONS = {
    r"imageio-ffmpeg": (
        "BSD-2-Clause AND GPL-3.0-or-later",
        "its wheel brings a GPL build of the encoder ffmpeg; zoo starts it as a program of its own, ships none",
    ),
    r"nvidia-.*": ("LicenseRef-NVIDIA-Proprietary", "libraries that CUDA builds of torch load; CPU-only builds do not"),
    r"cuda-toolkit": ("LicenseRef-NVIDIA-Proprietary", "names nvidia-* packages and holds no code; says no licence"),
    r"easypytorch3d": ("BSD-3-Clause", "PyTorch3D; its metadata say no licence, its file LICENSE does"),
}

# Weights that may not be used for everything, and why they are shipped all the same.
_PEOPLE = "learnt from photographs of people that are for research; its card says so"
RESTRICTED = {
    "gof.photos64": _PEOPLE,
    "meshgan.photos64": _PEOPLE,
    "pigan.photos64": _PEOPLE,
    "shadegan.photos32": _PEOPLE,
    "shadegan.photos64": _PEOPLE,
    "stylegan2.photos64": _PEOPLE,
    "unsup3d.photos64": _PEOPLE,
}

_ALIASES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mit licensed, as found in the license file": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}


def licence_of(package: Distribution) -> str:
    """The licence as an SPDX expression if it is known by another name, else in the package's words, "" without any."""
    for pattern, (licence, _) in EXCEPTIONS.items():
        if re.fullmatch(pattern, package.name.lower().replace("_", "-")):
            return licence
    about = package.metadata
    if said := about.get("License-Expression"):
        return said
    said = about.get("License") or ""
    if not said or len(said) > 60:  # some paste the whole text
        named = [c for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
        said = " OR ".join(_ALIASES.get(name.lower(), name) for c in named if (name := c.rpartition(" :: ")[2]))
    return _ALIASES.get(said.lower(), said)


def in_cyclonedx(licence: str) -> dict[str, object]:
    """A licence as CycloneDX writes it: an SPDX expression, or words."""
    parts = re.split(r" AND | OR ", licence.replace("(", "").replace(")", ""))
    if all(part in ALLOWED or re.fullmatch(r"[A-Za-z][\w.+-]*-[\w.+-]*", part) for part in parts):
        return {"expression": licence}
    return {"license": {"name": licence or "not stated"}}


def allowed(package: Distribution) -> bool:
    """Whether the licence is on the list, or the package is a named exception."""
    name = package.name.lower().replace("_", "-")
    if any(re.fullmatch(pattern, name) for pattern in EXCEPTIONS):
        return True
    choices = licence_of(package).replace("(", "").replace(")", "").split(" OR ")
    return any(all(part in ALLOWED for part in choice.split(" AND ")) for choice in choices)
