#!/usr/bin/env bash
# The program as one zipapp: python3 connectsphere.pyz. It holds no native packages; where one is missing it says
# which, and how to have them fetched.
# usage: [PYTHON=python3] build/zipapp.sh [OUTPUT]
set -euo pipefail
out=${1:-$(dirname "$0")/dist/connectsphere.pyz}
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp connectsphere.py LICENSE "$folder"
printf 'import sys\n\nfrom connectsphere import main\n\nsys.exit(main())\n' > "$folder/__main__.py"
"${PYTHON:-python3}" -m zipapp "$folder" --compress --python "/usr/bin/env python3" --output "$out"
