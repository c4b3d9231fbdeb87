#!/usr/bin/env bash
# The calls, in order: `bash benchmarks/gpu/run_all.sh STEP`. Each ends within 10 minutes and brings its JSON back in $OUT.
# Steps 1 to PIECES take in one piece each (carry benchmarks/gpu/carry/pieces/STEP) and use the wait; README.md has the list.
set -u
step=${1:?give a step: see benchmarks/gpu/README.md}
. benchmarks/gpu/setup.sh
check=${CHECK:+--check}
out="--out $RESULTS"
case "$step" in
    take)      : ;;
    ceilings)  python3 -m benchmarks.gpu.ceilings $check $CARRIED $out ;;
    warm)      python3 -m benchmarks.gpu.inference --warm --limit-s "${LIMIT_S:-240}" "${@:2}" ;;
    training)  python3 -m benchmarks.gpu.training $check $out --limit-s "${LIMIT_S:-420}" "${@:2}" ;;
    inference) python3 -m benchmarks.gpu.inference $check $CARRIED $out --limit-s "${LIMIT_S:-560}" "${@:2}" ;;
    study)     python3 -m benchmarks.gpu.study $check $out --limit-s "${LIMIT_S:-560}" "${@:2}" ;;
    *)         echo "no step $step: take, ceilings, warm, training, inference, study"; exit 2 ;;
esac
code=$?
deliver
exit $code
