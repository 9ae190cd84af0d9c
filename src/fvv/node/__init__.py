"""A DICOM storage node that answers by itself (`fvv listen`), in the order of the work.

`objects` judges what arrives, `spool` keeps it on disk, `receive` speaks DICOM with senders, `worker` answers one study
in a process of its own, on the path of `fvv predict`, `send` brings results to their destinations, `listen` joins them,
`status` shows how it stands. The folders of the spool are the only memory: a process that is killed at any moment goes
on from them.
"""
