"""A cluster of Slurm's on this machine, with a configuration, ports and a key of its own: two nodes of one processor each.

apt-get install -y slurmctld slurmd munge
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")

# `low` is preempted by `high`, after a grace; without cgroups processes are found by their parents
_CONF = """
ClusterName=grow
SlurmctldHost=localhost
SlurmctldPort={ctld}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
SlurmdTimeout=30
MaxArraySize=101
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={n1} CPUs=1
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={n2} CPUs=1
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=2 PreemptMode=REQUEUE
PartitionName=cut Nodes=ALL MaxTime=INFINITE PriorityTier=1 GraceTime=2 PreemptMode=CANCEL
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


def absent() -> list[str]:
    """The programs that are not installed."""
    return [program for program in PROGRAMS if _found(program) is None]


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Cluster:
    """Started by its constructor; `close` ends every process of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._asked: list[subprocess.Popen[bytes]] = []
        for name in ("munge", "state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir(parents=True)
        ports = dict(zip(("ctld", *NODES), _free_ports(3), strict=True))
        self._write("slurm.conf", _CONF.format(folder=folder, user=getpass.getuser(), **ports))
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        key = folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self._start("munged", "--force", *(f"--{option}={folder}/munge/{name}" for option, name in munge.items()))
        self._start("slurmctld", "-c")
        for node in NODES:
            self.start_node(node)
        self.until(lambda: self.say("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split() == ["idle", "idle"])

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def _start(self, program: str, *options: str) -> None:
        found = _found(program)
        assert found is not None
        subprocess.run([found, *options], env=self.environment, check=True, timeout=60)

    def start_node(self, node: str) -> None:
        self._start("slurmd", "-N", node)

    def node(self, name: str) -> psutil.Process:
        """The daemon of a node."""
        return psutil.Process(int((self.folder / f"{name}.pid").read_text()))

    def kill(self, *processes: psutil.Process) -> None:
        """Kill -9, and wait until they are gone, or wait in vain for whoever should bury them."""
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.until(lambda: all(map(_gone, processes)))

    def say(self, *line: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout

    def ask(self, *line: str) -> None:
        """A command whose end nobody waits for: scancel tries on for a minute where a job is queued again meanwhile."""
        self._asked.append(subprocess.Popen(line, env=self.environment))

    def until(self, there: Callable[[], object], seconds: float = 120) -> None:
        """Wait for something to be so."""
        end = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < end, self.say("squeue", "--states=all", "--array") + self.tail()
            time.sleep(0.2)

    def tail(self) -> str:
        """The end of the daemons' logs."""
        return "".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))

    def cancel_all(self) -> None:
        self.say("scancel", "--user", getpass.getuser())

    def close(self) -> None:
        self.cancel_all()
        for asked in self._asked:
            asked.kill()
            asked.wait()
        for pid in (*self.folder.glob("*.pid"), self.folder / "munge/pid"):
            try:
                process = psutil.Process(int(pid.read_text()))
            except (ValueError, OSError, psutil.Error):
                continue
            children = process.children(recursive=True)
            process.send_signal(signal.SIGTERM)
            _, alive = psutil.wait_procs([process, *children], timeout=20)
            for one in alive:
                one.kill()


def _gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
