"""`fit`, and everything during a training run.

fit, run, step                   the loop over epochs, the run it drives, one update of θ
callbacks, progress, history     what happens besides the step
loss_meter                       the mean loss of an epoch, read from the device rarely
resume, data_fingerprint         a run ↔ a checkpoint, and the checksums of its data
interrupt, rank_logs             Ctrl-C, SIGTERM, SIGHUP; one log file per rank
data_parallel/                   a run whose batches several ranks share
"""
