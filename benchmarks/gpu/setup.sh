# Sourced on the GPU machine at the start of every call: `. benchmarks/gpu/setup.sh`. Takes in the piece this call carries, joins what is whole,
# installs it beside what the machine has, and sets the paths. Repeating it does no harm.
PLACE=${PLACE:-/tmp/cellclf-gpu}
HERE=benchmarks/gpu
mkdir -p "$PLACE/pieces" "$PLACE/site"
for piece in "$HERE"/carry/pieces/*/*; do [ -f "$piece" ] && cp "$piece" "$PLACE/pieces/"; done

# join NAME: NAME.tar of its pieces once all are there, unpacked once.
join() {
    [ -e "$PLACE/$1.done" ] && return 0
    set -- "$1" "$PLACE/pieces/$1".tar.*-of-*
    [ -e "$2" ] || return 1
    [ "$(($# - 1))" -eq "$((10#${2##*-of-}))" ] || { echo "$1: $(($# - 1)) of ${2##*-of-} pieces are here"; return 1; }
    name=$1; shift
    cat "$@" | tar -x -C "$PLACE" && rm "$@" && touch "$PLACE/$name.done"
}

if [ -e "$PLACE/pieces/base.tar" ] && [ ! -e "$PLACE/base.done" ]; then
    tar -x -C "$PLACE" -f "$PLACE/pieces/base.tar" \
        && python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$PLACE/site" "$PLACE"/wheels/*.whl \
        && touch "$PLACE/base.done"
fi
join data
if join onnxruntime && [ ! -e "$PLACE/onnxruntime.installed" ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$PLACE/site" "$PLACE"/onnxruntime/*.whl \
        && touch "$PLACE/onnxruntime.installed"
fi

# CUDA's libraries are pip packages there; ONNX Runtime lies elsewhere and would not look among them.
LIBRARIES=$(python3 - <<'PYTHON'
import importlib.util, pathlib
roots = [pathlib.Path(path) for path in (importlib.util.find_spec("nvidia") or type("", (), {"submodule_search_locations": []})).submodule_search_locations]
print(":".join(str(path) for root in roots for path in sorted(root.glob("*/lib"))))
PYTHON
)
export LD_LIBRARY_PATH="$LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PYTHONPATH="$PLACE/site:$PWD" PYTHONUNBUFFERED=1 KERAS_BACKEND=jax
export CELLCLF_DATA="$PLACE/data" CELLCLF_CACHE="$PLACE/cache" CELLCLF_WEIGHTS="$PLACE/weights"
CARRIED="--carry $PLACE"
# The families of the images were found where the data were packed; here they are only read.
if [ -d "$PLACE/data" ] && [ ! -e "$PLACE/cache/families" ]; then
    tar -x -C "$PLACE/data" -f "$PLACE/data/blood-cells.tar.gz" && mkdir -p "$PLACE/cache" && cp -r "$PLACE/data/families" "$PLACE/cache/"
fi
# Figures of earlier calls, so that a script goes on where it was stopped; $OUT is emptied before every call.
RESULTS="$PLACE/results"
mkdir -p "$RESULTS"
deliver() { [ -n "${OUT:-}" ] && cp "$RESULTS"/*.json "$OUT/" 2>/dev/null; nvidia-smi --query-gpu=name,clocks.sm,power.draw,temperature.gpu --format=csv; }
