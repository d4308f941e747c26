#!/usr/bin/env bash
# The Linux executables, build/dist/connectsphere (one file) and build/dist/connectsphere-VERSION-linux.tar.gz (a
# folder, starts faster), then a smoke test of both. Needs a Python 3.11 or newer with tkinter, and what PyAudio
# is compiled with: apt-get install python3-venv python3-dev python3-tk gcc libc6-dev portaudio19-dev
# usage: [PYTHON=python3] build/linux.sh [--no-smoke]
set -euo pipefail
cd "$(dirname "$0")/.."
. build/venv.sh
rm -rf build/dist/connectsphere build/dist/connectsphere-folder
build/work/venv/bin/pyinstaller --noconfirm --log-level ERROR \
    --distpath build/dist --workpath build/work/linux build/pyinstaller.spec
version=$(build/dist/connectsphere --version | awk '{print $NF}')
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 -C build/dist -cf - connectsphere-folder |
    gzip -6n > "build/dist/connectsphere-$version-linux.tar.gz"
(cd build/dist && ls -l connectsphere ./*.tar.gz && sha256sum connectsphere ./*.tar.gz)
if [ "${1:-}" != --no-smoke ]; then
    for program in build/dist/connectsphere build/dist/connectsphere-folder/connectsphere; do
        build/work/venv/bin/python build/smoke.py "$program"
    done
fi
