"""What Slurm runs for `sweep=slurm`: a batch script, each task of whose array trains one job, and the line that submits it.

A task runs `grow resume FOLDER`, as a slot of `sweep=local` does, and decides by its end what follows:

    finished, failed, or a mistake        the task ends
    crashed, or its process was killed    once more at once, `sweep.retries` times in a task
    USR2: the time limit is near          it has saved; the task is queued again
    TERM: it is preempted                 the same, unless Slurm has queued it again by itself
    TERM: `scancel`                       it has saved; the task ends

Only the batch shell hears USR2 (`--signal=B:`) in time; a job that is cancelled or preempted gets TERM in all its processes. So
the shell hands on USR2 and nothing else, of which a process takes any number for one. Queueing again is left until the process
has ended, and not done in the handler.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from grow_cli.config import Sweep

_SCRIPT = r"""#!/bin/bash
# by `grow train -m sweep=slurm`: each task of the array trains the job in one of these folders
folders=(
@FOLDERS@
)
folder=${folders[$SLURM_ARRAY_TASK_ID]}
task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
limit=@LIMIT@ lead=@LEAD@ retries=@RETRIES@
asked= child= tries=0
[ -L "$folder/log.txt" ] || exec >>"$folder/log.txt" 2>&1

status() { sed -n 's/^ "status": "\([a-z]*\)",\{0,1\}$/\1/p' "$folder/summary.json" 2>/dev/null; }
checkpoint() { stat -c '%i %y' "$folder/checkpoints/last.pt" 2>/dev/null; }
# whether a process has the folder: of another sweep, or of this task on a node that Slurm gave up
busy() { [ -e "$folder/.lock" ] || return 1; flock -n -s "$folder/.lock" true; [ $? -eq 1 ]; }
hear() { asked=$1; [ -n "$child" ] && kill -USR2 "$child" 2>/dev/null; }
trap 'hear USR2' USR2
trap 'hear TERM' TERM

before=$(checkpoint)
[ "$(status)" = finished ] && exit 0
while [ -z "$asked" ]; do
  @GROW@ resume "$folder" &
  child=$!
  [ -n "$asked" ] && kill -USR2 "$child" 2>/dev/null
  until wait "$child"; code=$?; ! kill -0 "$child" 2>/dev/null; do :; done
  child=
  case $code:$(status) in
    0:* | *:finished) exit 0 ;;
    1:failed) exit 1 ;;
    129:* | 130:*) exit $code ;;
    140:* | 143:*) asked=${asked:-itself} ;;
    2:*)
      busy && [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || exit 2
      sleep 10 & wait $!
      continue ;;
  esac
  [ -n "$asked" ] && break
  [ $((tries++)) -lt $retries ] || exit $code
  echo "grow: the process ended with $code, and the job goes on again ($tries of $retries)"
done
code=${code:-143}
if [ $asked = USR2 ] && [ $SECONDS -ge $((limit - lead - 60)) ] && [ "$(checkpoint)" = "$before" ]; then
  echo "error: no checkpoint was written within the time limit of $((limit / 60)) min: give more by sweep.minutes"
  exit $code
fi
for _ in 1 2 3 4 5; do
  shown=$(scontrol --oneliner show job "$task") && break
  sleep 2
done
case $shown in
  *JobState=RUNNING* | *PreemptTime=[0-9]*) ;;
  *) [ $SECONDS -ge $((limit - 5)) ] || exit $code ;; # cancelled, or queued again by Slurm itself
esac
echo "grow: task $task is queued again"
scontrol requeue "$task"
exit $code
"""


def script(folders: Sequence[Path], how: Sweep) -> str:
    """The batch script for jobs in these folders, in the order of the array's tasks."""
    values = {
        "FOLDERS": "\n".join(shlex.quote(str(folder)) for folder in folders),
        "LIMIT": str(how.minutes * 60),
        "LEAD": str(how.lead_seconds),
        "RETRIES": str(how.retries),
        "GROW": f"{shlex.quote(sys.executable)} -m grow_cli",
    }
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], _SCRIPT)


def submission(path: Path, output: Path, jobs: int, name: str, how: Sweep) -> list[str]:
    """The line that submits the script at `path` as an array of so many jobs.

    All is given on it and nothing in the script, because SBATCH_* variables overrule the script's lines.

    :param output: what Slurm itself says of the tasks; what a job prints is in its folder
    """
    given = {
        "partition": how.partition,
        "account": how.account,
        "qos": how.qos,
        "cpus-per-task": how.cpus,
        "mem": f"{how.memory_gb}G" if how.memory_gb else None,
        "gpus-per-node": how.gpus or None,
    }
    return [
        *("sbatch", "--parsable", f"--job-name=grow-{name}"),
        f"--array=0-{jobs - 1}" + (f"%{how.jobs}" if how.jobs else ""),
        *("--nodes=1", "--ntasks=1", f"--time={how.minutes}", f"--signal=B:USR2@{how.lead_seconds}", "--requeue"),
        *(f"--output={str(output).replace('%', '%%')}", "--open-mode=append"),
        *(f"--{option}={value}" for option, value in given.items() if value is not None),
        *how.options,
        str(path),
    ]
