"""The page of a run under way is served to this machine and its token, and follows the run."""

import http.client
import json
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import result, watching
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.settings import TrainConfig, write_toml
from ffnn_gpu.cli.watching import watched
from ffnn_gpu.report.live import HASH
from tests.report.reader import read, section

ROW = {"epoch": 1, "loss": 0.5, "val_loss": 0.25, "lr": 0.1, "seconds": 1.0}


def write_rows(folder, count):
    rows = [json.dumps({**ROW, "epoch": k, "loss": 1 / k}) + "\n" for k in range(1, count + 1)]
    (folder / "metrics.jsonl").write_text("".join(rows), "utf-8")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Yield a server of a run folder with one epoch."""
    monkeypatch.setattr(watching, "PAUSE", 0.01)
    write_toml(TrainConfig(data="digits"), tmp_path / "config.toml")
    write_rows(tmp_path, 1)
    with watched(lambda line: None) as watch:
        watch.begin(tmp_path)
        yield watch


def ask(watch, path, host=None):
    """Return the answer to GET of a path."""
    place = watch.address.split("/")[2]
    connection = http.client.HTTPConnection(place, timeout=5)
    connection.request("GET", path, headers={"Host": host or place})
    return connection.getresponse()


def test_page_shows_the_epochs_so_far(served, tmp_path):
    answer = ask(served, f"/{served.token}/")
    tree = read(answer.read().decode())
    assert answer.status == 200 and answer.headers["Cache-Control"] == "no-store"
    assert "Not finished" in section(tree, "results").text
    write_rows(tmp_path, 3)
    later = read(ask(served, f"/{served.token}/page").read().decode())
    values = section(later, "training").all("details")[0].all("tr")
    assert [row.children[0].text for row in values] == ["epoch", "1", "2", "3"]
    (script,) = later.all("script")
    policy = next(m.attributes["content"] for m in later.all("meta") if "http-equiv" in m.attributes)
    assert "EventSource" in script.text and f"script-src 'sha256-{HASH}'; connect-src 'self'" in policy


def test_news_follow_the_run(served, tmp_path):
    answer = ask(served, f"/{served.token}/events")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.fp.readline() == b"data: row\n" and answer.fp.readline() == b"\n"
    write_rows(tmp_path, 2)
    assert answer.fp.readline() == b"data: row\n"


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/", None, 404),
        ("/wrong/", None, 404),
        ("/TOKEN/../config.toml", None, 404),
        ("/TOKEN/config.toml", None, 404),
        ("/TOKEN/", "evil.example", 403),
        ("/TOKEN/events", "evil.example:80", 403),
    ],
)
def test_others_get_nothing(served, path, host, status):
    answer = ask(served, path.replace("TOKEN", served.token), host)
    assert answer.status == status and b"digits" not in answer.read()


def test_server_listens_on_this_machine_only(served):
    assert served.address.startswith("http://127.0.0.1:")
    assert served._server.server_address[0] == "127.0.0.1"
    assert len(served.token) >= 20


def test_browser_that_goes_away_is_not_noticed(served, tmp_path, capfd):
    place = served.address.split("/")[2]
    before = threading.active_count()
    with socket.create_connection(("127.0.0.1", served._server.server_port)) as browser:
        browser.sendall(f"GET /{served.token}/events HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        assert browser.recv(12) == b"HTTP/1.0 200"
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        write_rows(tmp_path, int(time.monotonic() * 1000) % 7 + 2)  # what is written to it fails
        time.sleep(0.01)
    assert threading.active_count() <= before and capfd.readouterr() == ("", "")
    assert ask(served, f"/{served.token}/").status == 200


def test_files_that_are_being_written_are_no_page_yet(served, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": \n{"epoch": 2}\n', "utf-8")
    assert ask(served, f"/{served.token}/").status == 503


def test_end_ends_the_answers_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "PAUSE", 0.01)
    write_toml(TrainConfig(data="digits"), tmp_path / "config.toml")
    with watched(lambda line: None) as watch:
        watch.begin(tmp_path)
        answer = ask(watch, f"/{watch.token}/events")
    assert answer.read() == b"data: row\n\n"


def test_command_prints_the_address_and_trains_as_without(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(result, "_draw_plots", lambda *given: None)
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 3)))
    losses = []
    for out, more in (("plain", ()), ("watched", ("--watch",))):
        words = ["train", "rows.npy", "--hidden", "4", "--epochs", "2", "--device", "numpy", "--out", out]
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 0, done.output
        losses.append(json.loads(Path(out, "result.json").read_text("utf-8"))["test"])
    assert losses[0] == losses[1] and "watch http://127.0.0.1:" in done.stderr


def test_machine_that_forbids_servers_is_no_error(tmp_path, monkeypatch):
    def forbidden(*given):
        raise OSError("no sockets here")

    monkeypatch.setattr(watching, "_Server", forbidden)
    lines = []
    with watched(lines.append) as watch:
        watch.begin(tmp_path)
    assert lines == ["no page to watch: no sockets here"]
