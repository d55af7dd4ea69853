"""Reveal trials on the server: the oracle's route and client, what is kept of a round, masks equal to the browser's."""

from __future__ import annotations

import base64
import json
import math
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.images import encode_png, read_picture
from bench.records import columns
from bench.registry import LimenError
from bench.store import Store, sha256_bytes
from psychophysics_server.export.folder import export
from psychophysics_server.study.frozen import Library
from psychophysics_server.web.oracle import HttpOracle, OracleAnswer, OracleSilent
from stimuli.masks import mask_sha256, masked_picture, revealed_mask
from stimuli.records import TrialRow

FRONTEND = Path(__file__).parents[2] / "psychophysics_server" / "frontend"
SIZE = (60, 40)
BOX, STEP = 14, 7


def drawing() -> np.ndarray:
    """A line drawing: black strokes on white."""
    picture = np.full((SIZE[1], SIZE[0], 3), 255, dtype=np.uint8)
    picture[10:30, 20] = picture[10:30, 40] = picture[10, 20:41] = 0
    return picture


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory):
    """The tiny study with reveal trials at test: one in two asks the oracle."""
    png = encode_png(drawing())
    sha = sha256_bytes(png)
    table = tiny.artifact.rows("trials.parquet")
    asks = iter(range(10_000))

    def edit(row):
        if row["phase"] != "test":
            return row
        number = next(asks)
        payload = {"phase": "test", "image": sha, "word": "gate", "box_px": BOX, "step_px": STEP, "size": list(SIZE)}
        row["payload"] = json.dumps(payload | {"oracle": number % 2 == 0, "limit_ms": 3000})
        row["trial_type"], row["is_catch"] = "reveal", False
        row["answer"] = json.dumps({"label": "a gate"})
        row["factors"] = json.dumps({"side": "left" if number % 4 < 2 else "right", "depth": 2})
        return row

    rows = [edit(dict(row)) for row in table.to_dict("records")]
    facts = json.loads(tiny.artifact.file("study.json").read_text())
    facts = facts | {"study": "reveal-study", "checks": {}}
    library = Library(Store(tmp_path_factory.mktemp("reveal") / "store"))
    with library.store.write("stimuli", facts) as draft:
        draft.write_rows(pd.DataFrame(rows, columns=columns(TrialRow)), "trials.parquet")
        draft.write_rows(tiny.artifact.rows("cells.parquet"), "cells.parquet")
        for name, path in tiny.pictures.items():
            draft.write_bytes(path.read_bytes(), f"pictures/{name}.png")
        draft.write_bytes(png, f"pictures/{sha}.png")
        draft.write_json(facts, "study.json")
        draft.write_json({"protocol": "reveal"}, "protocol.json")
    return library.newest("reveal-study")


class Told:
    """An oracle that knows nothing but how many boxes it saw."""

    def __init__(self):
        self.asked = []

    def ask(self, picture, boxes, *, box_px, word):
        self.asked.append((picture.name, boxes, box_px, word))
        if len(boxes) > 90:
            raise OracleSilent("too many")
        won = len(boxes) >= 20
        return OracleAnswer(top=(("a gate", 0.5), ("a bird", 0.25)), rank=1 if won else 7, won=won)


def rounds(person, *, oracle):
    trials = [trial for trial in person.trials() if trial["trial_type"] == "reveal"]
    return [trial for trial in trials if trial["payload"]["oracle"] is oracle]


def ask(person, trial, boxes):
    return person.call("POST", "/api/oracle", json={"trial_id": trial["trial_id"], "boxes": boxes})


def path(count):
    return [[3 + min(i, 40), 4 + i % 5] for i in range(count)]


def test_the_oracle_is_asked_with_the_true_class_that_the_browser_never_had(launch, study):
    oracle = Told()
    person = launch(study, oracle=oracle).person()
    person.consent()
    trial = rounds(person, oracle=True)[0]
    assert "a gate" not in json.dumps(trial)
    reply = ask(person, trial, path(10))
    assert reply.status_code == 200
    assert reply.json == {"top": [["a gate", 0.5], ["a bird", 0.25]], "rank": 7, "won": False}
    assert ask(person, trial, path(20)).json["won"] is True
    assert oracle.asked[0] == (f"{trial['payload']['image']}.png", path(10), BOX, "a gate")


def test_a_trial_that_asks_no_oracle_or_is_not_on_the_schedule_is_refused(launch, study):
    oracle = Told()
    running = launch(study, oracle=oracle)
    person = running.person()
    person.consent()
    mine = {trial["trial_id"] for trial in person.trials()}
    others = {t.trial_id for trials in study.trials.values() for t in trials if t.trial_type == "reveal"} - mine
    for trial_id in (rounds(person, oracle=False)[0]["trial_id"], person.trials()[0]["trial_id"], min(others), "../x"):
        assert ask(person, {"trial_id": trial_id}, path(10)).status_code == 404
    assert oracle.asked == []


@pytest.mark.parametrize("boxes", [[], [[60, 0]], [[0, 40]], [[-1, 0]], [[1, 2, 3]], [["1", 2]], [[0, 0]] * 601, "no"])
def test_boxes_that_no_round_can_have_are_refused(launch, study, boxes):
    oracle = Told()
    person = launch(study, oracle=oracle).person()
    person.consent()
    assert ask(person, rounds(person, oracle=True)[0], boxes).status_code == 400
    assert oracle.asked == []


def test_without_an_oracle_or_without_its_answer_the_round_goes_on(launch, study):
    person = launch(study).person()
    person.consent()
    refused = ask(person, rounds(person, oracle=True)[0], path(10))
    assert (refused.status_code, refused.json["error"]) == (503, "oracle")


def test_a_silent_oracle_is_told_apart_from_a_refusal(launch, study):
    person = launch(study, oracle=Told()).person()
    person.consent()
    refused = ask(person, rounds(person, oracle=True)[0], path(91))
    assert (refused.status_code, refused.json["error"]) == (503, "oracle")


def test_nobody_asks_the_oracle_faster_than_a_player_could(launch, study):
    oracle = Told()
    running = launch(study, oracle=oracle)
    person = running.person()
    person.consent()
    trial = rounds(person, oracle=True)[0]
    statuses = [ask(person, trial, path(5)).status_code for _ in range(60)]
    assert statuses[0] == 200
    assert 503 in statuses
    assert len(oracle.asked) == statuses.count(200)


def test_the_oracle_needs_a_token(launch, study):
    running = launch(study, oracle=Told())
    body = {"trial_id": "t", "boxes": [[1, 1]]}
    assert running.app.test_client().post("/api/oracle", json=body).status_code == 401


def strokes_of(count):
    return [[50.0 * i, x, y] for i, (x, y) in enumerate(path(count))]


@pytest.fixture
def played(launch, study, tmp_path):
    """One person who played every round, and the export of it."""
    running = launch(study)
    person = running.person()
    person.consent()
    key = person.key()
    calls = [[450.5, 10, 7, 31.25, [["a_gate", 0.5]]], [950.0, 20, None, 2000.0, []]]
    for trial in person.trials():
        if trial["trial_type"] != "reveal":
            assert person.answer(trial, key[trial["trial_id"]]).status_code == 200
            continue
        more = {"points": 0, "scale": 4.5, "played_ms": 1200.25, "strokes": strokes_of(24), "oracle": calls}
        assert person.answer(trial, "done", **more, picture_px=270.0, inputs="mouse").json["faults"] == {}
    assert person.complete().status_code == 200
    done = export(running.database, running.study, tmp_path / "out", stale_s=3600)
    return person, done


def test_a_round_is_one_row_that_can_be_played_again(played):
    _, done = played
    rows = pd.read_csv(done.folder / "data/study-revealstudy_description-strokes_data.csv")
    main = pd.read_csv(done.folder / "data/study-revealstudy_data.csv")
    assert set(rows["row_id"]) == set(main.loc[main["trial_type"] == "reveal", "row_id"])
    for row in rows.itertuples():
        mask = revealed_mask(json.loads(row.strokes), (row.width, row.height), row.box_px)
        assert mask_sha256(mask) == row.mask_sha256
        assert json.loads(row.oracle)[1][:3] == [950, 20, None]
        assert (row.outcome, row.boxes, row.scale, row.played_ms, row.waited_ms) == ("done", 24, 4.5, 1200.25, 2031.25)


def test_strokes_stay_out_of_the_main_file_and_factors_come_in(played, study):
    _, done = played
    main = pd.read_csv(done.folder / "data/study-revealstudy_data.csv")
    reveal = main[main["trial_type"] == "reveal"]
    assert not main["details"].str.contains("strokes").any()
    assert set(reveal["side"]) <= {"left", "right"}
    assert (reveal["depth"] == 2).all()
    assert main.loc[main["phase"] != "test", "depth"].isna().all()
    assert (reveal["deadline_ms"] == 3000).all()
    assert (reveal["picture_px"] == 270).all()


def test_strokes_further_apart_than_the_step_cannot_count(launch, study):
    person = launch(study).person()
    person.consent()
    trial = rounds(person, oracle=False)[0]
    answer = person.answer(trial, "done", strokes=[[0, 5, 5], [50, 13, 5]])
    assert "more than 7 pixels apart" in next(iter(answer.json["faults"].values()))


CASES = st.lists(
    st.tuples(st.floats(0, 9999), st.integers(-5, 70) | st.floats(0, 59), st.integers(-5, 50) | st.floats(0, 39)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(1, 30))
def test_a_pixel_is_revealed_if_and_only_if_a_box_covers_it(strokes, box):
    mask = revealed_mask(strokes, SIZE, box)
    rows, cols = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    slow = np.zeros_like(mask)
    for _, x, y in strokes:
        left, top = math.floor(x - (box - 1) / 2), math.floor(y - (box - 1) / 2)
        slow |= (cols >= left) & (cols < left + box) & (rows >= top) & (rows < top + box)
    assert np.array_equal(mask, slow)


def test_the_browser_makes_the_same_masks(tmp_path):
    binary = FRONTEND / "node_modules" / ".bin" / "esbuild"
    if not binary.exists():
        pytest.skip("FRONT-END TESTS NOT RUN: the front-end's packages are not installed")
    draw = np.random.default_rng(5)
    cases = []
    for _ in range(200):
        size = [int(side) for side in draw.integers(1, 80, 2)]
        places = draw.uniform(-10, 90, (int(draw.integers(0, 15)), 2))
        places = places if draw.random() < 0.5 else np.round(places)
        strokes = [[float(i), float(x), float(y)] for i, (x, y) in enumerate(places)]
        cases.append({"strokes": strokes, "size": size, "box": int(draw.integers(1, 30))})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "twin.ts").write_text(
        f'import {{ revealedMask }} from "{FRONTEND / "src" / "brush"}";\n'
        'import { createHash } from "node:crypto";\nimport { readFileSync } from "node:fs";\n'
        'const cases = JSON.parse(readFileSync(process.argv[2]!, "utf8"));\n'
        "const hash = (c: any) => createHash('sha256').update(revealedMask(c.strokes, c.size, c.box)).digest('hex');\n"
        "console.log(JSON.stringify(cases.map(hash)));\n"
    )
    bundle = [binary, "twin.ts", "--bundle", "--platform=node", "--format=esm", "--outfile=twin.mjs"]
    subprocess.run(bundle, cwd=tmp_path, timeout=120, check=True, capture_output=True)
    done = subprocess.run(
        ["node", "twin.mjs", "cases.json"], cwd=tmp_path, timeout=120, check=True, capture_output=True, text=True
    )
    ours = [mask_sha256(revealed_mask(case["strokes"], tuple(case["size"]), case["box"])) for case in cases]
    assert json.loads(done.stdout) == ours
    assert len(set(ours)) > 100


class Network(BaseHTTPRequestHandler):
    """A process that scores pictures by how bright they are."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pictures = [base64.b64decode(text) for text in body["pictures"]]
        self.server.batches.append(pictures)
        assert self.server.hold.wait(30)
        answer = {"classes": ["dark", "bright"], "scores": [[0.4, float(len(png) % 2)] for png in pictures]}
        text = json.dumps(self.server.said or answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def network():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Network)
    server.batches, server.said, server.hold = [], None, threading.Event()
    server.hold.set()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    thread.join(30)
    server.server_close()


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "gate.png").write_bytes(encode_png(drawing()))
    return tmp_path / "gate.png"


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def test_the_client_sends_what_is_revealed_and_nothing_else(network, picture, tmp_path):
    oracle = HttpOracle(address(network), top=1)
    answer = oracle.ask(picture, [[20, 15]], box_px=9, word="dark")
    oracle.close()
    (tmp_path / "sent.png").write_bytes(network.batches[0][0])
    mask = revealed_mask([(0, 20, 15)], SIZE, 9)
    assert np.array_equal(read_picture(tmp_path / "sent.png"), masked_picture(drawing(), mask))
    assert answer.rank in {1, 2}
    assert answer.won is (answer.rank == 1)


def test_questions_that_wait_together_go_in_one_request(network, picture):
    network.hold.clear()
    oracle = HttpOracle(address(network), timeout_s=20, window_ms=50)
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(oracle.ask(picture, [[5, 5]], box_px=3, word="dark")), daemon=True
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    network.hold.set()
    for thread in threads:
        thread.join(30)
    oracle.close()
    assert len(answers) == 12
    assert sum(len(batch) for batch in network.batches) == 12
    assert len(network.batches) < 12


@pytest.mark.parametrize("said", [{}, [], {"classes": ["a"], "scores": []}, {"classes": ["a"], "scores": [[1, 2]]}])
def test_an_answer_that_is_none_counts_as_silence(network, picture, said):
    network.said = said or {"classes": 5}
    oracle = HttpOracle(address(network))
    with pytest.raises(OracleSilent):
        oracle.ask(picture, [[5, 5]], box_px=3, word="dark")
    oracle.close()


def test_nobody_waits_for_an_oracle_that_hangs(network, picture):
    network.hold.clear()
    oracle = HttpOracle(address(network), timeout_s=0.05)
    with pytest.raises(OracleSilent):
        oracle.ask(picture, [[5, 5]], box_px=3, word="dark")
    network.hold.set()
    oracle.close()


@pytest.mark.parametrize("url", ["http://example.org:80", "https://127.0.0.1:1", "127.0.0.1:80", "http://127.0.0.1", "http://127.0.0.1:x"])  # fmt: skip
def test_an_oracle_elsewhere_is_refused(url):
    with pytest.raises(LimenError, match="not an address of this machine"):
        HttpOracle(url)


@pytest.mark.long
def test_a_network_answers_what_it_answers_in_the_bench(picture):
    from bench.engine import Engine
    from bench.oracle import oracle_server
    from bench.zoo import load_images, load_network

    engine = Engine(load_network("tiny@digits", progress=False), device="cpu")
    images = load_images("digits", split="test", n=6)
    server = oracle_server(engine)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    oracle = HttpOracle(address(server), timeout_s=30)
    try:
        for index in range(6):
            pixels = images.pictures[index]
            picture.write_bytes(encode_png(pixels))
            height, width = pixels.shape[:2]
            whole = [[x, y] for x in range(width) for y in range(height)]
            scores = engine.numpy(engine.scores(engine.inputs(pixels[None]), score="probability"))[0]
            word = engine.network.classes[int(scores.argmax())]
            answer = oracle.ask(picture, whole, box_px=1, word=word)
            assert (answer.rank, answer.top[0][0]) == (1, word)
            assert answer.top[0][1] == pytest.approx(float(scores.max()), abs=1e-4)
    finally:
        oracle.close()
        server.shutdown()
        thread.join(30)
        server.server_close()
