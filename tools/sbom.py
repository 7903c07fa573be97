"""Write a bill of materials for each image, as CycloneDX JSON: every locked package with its hashes; where it is built its base and Debian packages."""

import argparse
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.version import Version

from tools.base_image import built_on
from tools.debian import DebianPackage, ImageUnreadable, installed
from tools.licences import UNKNOWN, declared

REPOSITORY = Path(__file__).resolve().parents[1]
LOCKS = REPOSITORY / "images" / "requirements"
IMAGES = ("server-cuda", "server-cpu", "trainer-cuda", "trainer-cpu")
# What images/lock.sh writes, its continued lines joined.
LOCKED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)")


class SbomError(Exception):
    """A lock that cannot be read, or a document that is not CycloneDX."""


class Package(NamedTuple):
    """One line of a lock.

    Attributes:
        hashes: SHA-256 of each file of this version that pip may install.
    """

    name: str
    version: str
    hashes: tuple[str, ...]


def main() -> int:
    """Write one document per image; 0 when all are written, 1 with one sentence where that fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("sbom"), help="the folder to write to; it is made")
    folder: Path = parser.parse_args().out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for image in IMAGES:
            packages = locked(LOCKS / f"{image}.txt")
            try:
                system = installed(built_as(image))
                base = built_on(built_as(image))
                besides = f"and {len(system)} Debian packages, on {base[1] if base else 'an unknown base image'}"
            except ImageUnreadable as error:
                system, base = [], None
                besides = f"without Debian packages, because the image cannot be read: {error}"
            file = folder / f"{image}.cdx.json"
            file.write_text(document(image, packages, system, base), encoding="utf-8")
            nameless = sum(licences(package) == [_unknown()] for package in packages)
            print(f"{file}: {len(packages)} packages ({nameless} with unknown licences), {besides}")
    except (OSError, SbomError) as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    return 0


def locked(lock: Path) -> list[Package]:
    """Read a lock.

    Raises:
        SbomError: a line that is no package with a version and hashes.
    """
    packages = []
    for line in lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        found = LOCKED.fullmatch(line.strip())
        if found is None:
            raise SbomError(f"{lock.name}: {line.split()[0]} has no version or no hash; lock anew with `make lock`")
        hashes = tuple(word.removeprefix("--hash=sha256:") for word in found["hashes"].split())
        packages.append(Package(found["name"], found["version"], hashes))
    return packages


def built_as(image: str) -> str:
    """The name and tag that `make build` gives it."""
    service, _, kind = image.partition("-")
    return f"whetstone-{service}:{kind}"


def document(
    image: str, packages: list[Package], system: list[DebianPackage], base: tuple[str, str] | None = None
) -> str:
    """CycloneDX 1.6 of one image.

    Args:
        image: of ``IMAGES``.
        packages: of its lock.
        system: its Debian packages.
        base: name and digest of the image that it is built on.

    Raises:
        SbomError: the document does not hold to CycloneDX's schema.
    """
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    whole = Component(name=f"whetstone-{image}", version=version, type=ComponentType.CONTAINER, bom_ref=image)
    parts = [*map(_component, packages), *map(_system_component, system), *([_base_component(*base)] if base else ())]
    bom = Bom(components=parts)
    bom.metadata.component = whole
    bom.register_dependency(whole, parts)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        raise SbomError(f"{image}: not CycloneDX 1.6: {fault}")
    return text


def licences(package: Package) -> list[License]:
    """What the package itself says, where this very version is installed; else one that is named ``unknown``."""
    try:
        metadata = importlib.metadata.metadata(package.name)
    except importlib.metadata.PackageNotFoundError:
        return [_unknown()]
    # A build for a CPU and one for a card are one release under one licence.
    if Version(metadata["Version"]).public != Version(package.version).public:
        return [_unknown()]
    acknowledgement = LicenseAcknowledgement.DECLARED
    names = declared(metadata)
    if len(names) == 1:
        return [LicenseFactory().make_from_string(names[0], license_acknowledgement=acknowledgement)]
    return [LicenseFactory().make_with_name(name, acknowledgement=acknowledgement) for name in names] or [_unknown()]


def _unknown() -> License:
    return LicenseFactory().make_with_name(UNKNOWN)


def _component(package: Package) -> Component:
    url = PackageURL(type="pypi", name=package.name, version=package.version)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=url.to_string(),
        purl=url,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=value) for value in package.hashes],
        licenses=licences(package),
    )


def _system_component(package: DebianPackage) -> Component:
    qualifiers = {"arch": package.architecture, "distro": package.distribution}
    url = PackageURL(type="deb", namespace="debian", name=package.name, version=package.version, qualifiers=qualifiers)
    acknowledgement = LicenseAcknowledgement.DECLARED
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=url.to_string(),
        purl=url,
        licenses=[LicenseFactory().make_with_name(name, acknowledgement=acknowledgement) for name in package.licences],
    )


def _base_component(name: str, digest: str) -> Component:
    content = digest.partition(":")[2]
    return Component(
        name=name.partition("@")[0],
        version=digest,
        type=ComponentType.CONTAINER,
        bom_ref="base-image",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content)],
    )


if __name__ == "__main__":
    sys.exit(main())
