"""Incidents that a test changes as it likes, and replays."""

import json


def replaying(recorded, run, folder):
    """
    Return what changes a recording and replays it, as an incident in a file.

    Args:
        recorded: The recording; it stays as it is.
        run: Runs `hitless` in `folder`.
        folder: Where the file lies.
    """

    def replayed(change=lambda recording: None, *options):
        recording = json.loads(json.dumps(recorded))
        change(recording)
        judged = {"node": "n1", "version": "0", "zero_s": 1.7e9, "recording": recording}
        document = {"format": 1, "audit": [], "judged": judged}
        (folder / "incident.json").write_text(json.dumps(document, indent=2))
        return run("replay", "incident.json", *options)

    return replayed
