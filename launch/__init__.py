"""Starting trainings on one machine, on TPU pods, under Slurm and on Kubernetes: docs/launch.md."""
