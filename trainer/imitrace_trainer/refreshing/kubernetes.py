"""Write a schedule as a Kubernetes CronJob, in YAML."""

import json
import re

from imitrace_trainer.refreshing.calls import Call
from imitrace_trainer.refreshing.times import Times

_HOME = "/var/lib/imitrace"
_CONFIG = "/etc/imitrace/imitrace.toml"
_LATE = 6 * 3600
"""Seconds after its time in which a job is still started; what is later, the next one makes up."""


def cron_job(call: Call, times: Times, image: str) -> str:
    """Return the manifest of a CronJob; workspace and configuration come from a claim and a config map.

    A time that the clock leaves out Kubernetes leaves out, too: the next job makes it up.
    Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
    """
    name = re.sub(r"[^a-z0-9-]+", "-", f"imitrace-refresh-{call.clone}".lower())[:52].strip("-")
    arguments = ["refresh", call.clone, "--home", _HOME, "--config", _CONFIG]
    return f"""\
# The claim {name} holds the workspace, the config map of the same name imitrace.toml:
#   kubectl create configmap {name} --from-file=imitrace.toml
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: {json.dumps(_plain(times))}
  timeZone: {json.dumps(times.time_zone)}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {_LATE}
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 0 # the next time makes up for it, and a run that was killed is taken up
      template:
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          securityContext:
            runAsNonRoot: true
            runAsUser: 10001
            runAsGroup: 10001
            fsGroup: 10001
          containers:
            - name: refresh
              image: {json.dumps(image)}
              command: ["imitrace"]
              args: {json.dumps(arguments)}
              volumeMounts:
                - {{name: workspace, mountPath: {_HOME}}}
                - {{name: config, mountPath: /etc/imitrace, readOnly: true}}
          volumes:
            - name: workspace
              persistentVolumeClaim: {{claimName: {name}}}
            - name: config
              configMap: {{name: {name}}}
"""


def _plain(times: Times) -> str:
    """Return the fields with Sunday as 0 only: Kubernetes knows no 7."""
    *others, weekday = times.fields.split()
    if "7" not in weekday:
        return times.fields
    days = sorted({day % 7 for day in times.plan.weekdays})  # type: ignore[operator]  # plain numbers
    return " ".join([*others, ",".join(map(str, days))])
