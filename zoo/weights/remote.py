"""Weights on the Hugging Face hub: fetched into the cache, and uploaded. `HF_ENDPOINT` names another hub."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import resources
from ..config.schemas import Card
from ..errors import WeightsError, ZooError
from ..runtime.files import printable
from .cards import CARD, CONFIG, DISCRIMINATOR, MOST_WEIGHTS, WEIGHTS, read
from .hubcard import hub_readme

FILES = (WEIGHTS, CONFIG, DISCRIMINATOR, CARD)  # the card last: a copy that was cut short has none


@dataclass(frozen=True)
class Upload:
    """What goes to a repository, before it goes: paths of files, and the README.md as it will be."""

    repo: str
    files: dict[str, Path | bytes]

    def lines(self) -> list[str]:
        """Say it for people: one line for each file."""
        sizes = {name: len(f) if isinstance(f, bytes) else f.stat().st_size for name, f in self.files.items()}
        return [f"hf:{self.repo}", *(f"  {name:27} {size:>13,} bytes" for name, size in sizes.items())]


def download(spec: str) -> Path:
    """Fetch `org/repo[@revision]` into the cache and return the folder. With `ZOO_OFFLINE=1` it must be there.

    Only the files of a model are fetched, all of one commit, after their sizes were looked at. They are real files, not
    links into a shared store.

    Raises:
        ZooError: huggingface_hub is not installed.
        WeightsError: A malformed name, a repository without weights or with too many, or the download failed.
    """
    repo, revision = parse(spec)
    target = resources.cache() / "hub" / f"{repo.replace('/', '--')}@{(revision or 'main').replace('/', '--')}"
    here = (target / WEIGHTS).is_file()
    if resources.offline():
        if here:
            return target
        raise WeightsError(f"hf:{spec} is not in {target}, and ZOO_OFFLINE is set: unset it, or copy the folder there")
    client = _client(f"hf:{spec}")
    try:
        info = client.HfApi().model_info(repo, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if file.rfilename in FILES}
        _refuse(spec, sizes)
        client.snapshot_download(repo, revision=info.sha, allow_patterns=list(FILES), local_dir=target)
    except ZooError:
        raise
    except Exception as error:  # the client raises its own types, requests' and the system's alike
        hint = "; ZOO_OFFLINE=1 takes what was fetched before" if here else ""
        raise WeightsError(f"hf:{spec}: download to {target} failed ({_reason(error)}){hint}") from None
    return target


def plan(folder: Path, repo: str, pipeline: str, datasets: Sequence[str] = ()) -> Upload:
    """What `push` would upload from a folder of verified weights.

    Raises:
        WeightsError: A malformed name; no card, one without a licence, or one that the hub's own reader refuses.
    """
    repo, revision = parse(repo)
    if revision is not None:
        raise WeightsError(f"hf:{repo}@{revision}: write org/repo alone; an upload goes to its main branch")
    if not (folder / CARD).is_file():
        raise WeightsError(f"{folder}: no {CARD}; only weights with a card are uploaded, as zoo save writes them")
    card: Card = read(folder / CARD)
    if not card.sha256:
        raise WeightsError(f"{folder / CARD}: no sha256, so nobody can verify the weights; write them with zoo save")
    readme = hub_readme(card, (folder / CARD).read_text("utf-8"), repo, pipeline, datasets)
    _validate(readme, folder / CARD)
    files: dict[str, Path | bytes] = {name: folder / name for name in (WEIGHTS, CONFIG)}
    if card.discriminator_sha256:
        files[DISCRIMINATOR] = folder / DISCRIMINATOR
    return Upload(repo, files | {CARD: readme.encode()})


def push(upload: Upload, *, private: bool = False) -> str:
    """Upload in one commit; the repository is made if it is missing. Returns its address.

    Args:
        upload: What goes there.
        private: Only to a private repository; by default one that is made is as its owner's are.

    Raises:
        ZooError: huggingface_hub is not installed, or `ZOO_OFFLINE` is set.
        WeightsError: The hub refused, or could not be reached; or the repository is public.
    """
    if resources.offline():
        raise ZooError(f"hf:{upload.repo}: ZOO_OFFLINE is set; unset it to upload")
    client = _client(f"hf:{upload.repo}")
    try:
        api = client.HfApi()
        address = str(api.create_repo(upload.repo, private=private or None, exist_ok=True))  # of a new one alone
        if private and not api.repo_info(upload.repo).private:
            fix = "make it private there, or leave --private out"
            raise WeightsError(f"hf:{upload.repo} is public, and nothing was uploaded; {fix}")
        changes = [client.CommitOperationAdd(name, file) for name, file in upload.files.items()]
        api.create_commit(upload.repo, changes, commit_message="Upload weights with zoo push")
    except ZooError:
        raise
    except Exception as error:
        raise WeightsError(
            f"hf:{upload.repo}: upload failed ({_reason(error)}); to log in: hf auth login, or set HF_TOKEN"
        ) from None
    return address


def parse(spec: str) -> tuple[str, str | None]:
    """`org/repo[@revision]`, with or without `hf:`, as repository and revision.

    Raises:
        WeightsError: Another form.
    """
    spec = spec.removeprefix("hf:")
    match = re.fullmatch(r"([\w][\w.-]*/[\w][\w.-]*)(?:@([\w][\w./-]*))?", spec)
    if match is None or ".." in spec:
        raise WeightsError(f"hf:{printable(spec)}: write hf:org/repo or hf:org/repo@revision")
    return match[1], match[2]


def _client(what: str) -> Any:
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ZooError(f"{what} needs the package huggingface_hub: pip install 'zoo3d[hub]'") from None
    return huggingface_hub


def _refuse(spec: str, sizes: dict[str, int]) -> None:
    """Refuse, before anything is fetched, what no reader here would take."""
    if WEIGHTS not in sizes:
        raise WeightsError(f"hf:{spec}: no {WEIGHTS} there; zoo reads what zoo push uploads")
    if big := [name for name, size in sizes.items() if size > MOST_WEIGHTS]:
        raise WeightsError(f"hf:{spec}: {big[0]} has {sizes[big[0]]:,} bytes, more than the {MOST_WEIGHTS:,} read here")


def _validate(readme: str, path: Path) -> None:
    """Ask the hub's own reader, if it is installed."""
    try:
        from huggingface_hub import ModelCard  # pyright: ignore[reportMissingImports]
    except ImportError:
        return
    try:
        ModelCard(readme)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: the hub would refuse this card ({_reason(error)}); correct it") from None


def _reason(error: Exception) -> str:
    """The first line of what a client says, without what must not be shown: tokens."""
    from huggingface_hub import get_token  # pyright: ignore[reportMissingImports]

    text = (str(error).strip() or type(error).__name__).split("\n")[0]
    if token := get_token():
        text = text.replace(token, "***")
    return printable(re.sub(r"\bhf_\w+", "***", text))[:300]
