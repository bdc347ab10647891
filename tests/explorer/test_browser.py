"""The page in a real browser: it computes what the models compute, and answers pointer, keys and fingers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.explorer.conftest import RUNS
from vaezoo.explorer import images
from vaezoo.models import Autoencoder
from vaezoo.models.loading import Run

TOLERANCE = 1e-4
POINT, CLOUD, PRICED, GRID = range(4)
"""Places of the models on the page."""
SETTLED = "Promise.all(explorer.cards.map((card) => card.working))"


def open_page(browser: Any, page: Path, **options: Any) -> Any:
    opened = browser.new_page(**options)
    opened.asked, opened.said = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.goto(page.as_uri())
    opened.wait_for_selector("html[data-state]", state="attached", timeout=60_000)
    assert opened.get_attribute("html", "data-state") == "ready", opened.inner_text("#state")
    return opened


@pytest.fixture(scope="module")
def opened(chromium: Any, page: Path) -> Iterator[Any]:
    found = open_page(chromium, page, viewport={"width": 1280, "height": 1000}, color_scheme="light")
    yield found
    found.close()


@pytest.fixture
def shown(opened: Any) -> Any:
    """The page with A in all models."""
    opened.evaluate("(explorer.walk.stop(), explorer.tour.end(), explorer.ends.start())")
    opened.evaluate(f"explorer.walk.show().then(() => {SETTLED})")
    return opened


def state(page: Any, card: int) -> np.ndarray:
    page.evaluate(SETTLED)
    return np.array(page.evaluate(f"[...explorer.cards[{card}].state]"))


def pixels(page: Any, card: int) -> torch.Tensor:
    page.evaluate(SETTLED)
    return torch.tensor(page.evaluate(f"[...explorer.cards[{card}].pixels]")).view(1, 1, 16, 16)


def test_the_page_asks_for_nothing_and_complains_of_nothing(opened: Any) -> None:
    assert [address for address in opened.asked if not address.startswith(("blob:", "data:"))] == [opened.url]
    assert opened.said == []


@pytest.mark.parametrize("name", [name for name in RUNS if name != "grid"])
def test_codes_and_pixels_are_those_of_the_model(name: str, shown: Any, models: dict[str, Autoencoder]) -> None:
    card, model = list(RUNS).index(name), models[name]
    generator = torch.Generator().manual_seed(1)
    codes = 2 * torch.randn(4, model.latent_dim, generator=generator)
    decode = f"(codes) => explorer.cards[{card}].networks.decode(Float32Array.from(codes), 4)"
    script = f"(codes) => ({decode})(codes).then((found) => [...found.pixels])"
    decoded = torch.tensor(shown.evaluate(script, codes.flatten().tolist())).view(4, 1, 16, 16)
    test = torch.tensor(shown.evaluate("[...explorer.test[0]]")).view(1, 1, 16, 16)
    with torch.no_grad():
        assert (decoded - model.decode(codes)).abs().max() < TOLERANCE
        assert np.abs(state(shown, card) - model.encode(test)[0].numpy()).max() < TOLERANCE
        assert (pixels(shown, card) - model.reconstruct(test)).abs().max() < TOLERANCE


def test_images_are_those_of_the_data(shown: Any, stored: dict[str, Path]) -> None:
    wanted = images.read(Run(stored["point"]).data())
    for name, tensor in (("training", wanted.measured), ("test", wanted.test)):
        found = torch.tensor(shown.evaluate(f"[...explorer.{name}[7]]")).view(1, 16, 16)
        assert (found - tensor[7]).abs().max() < 1 / 255


def test_indices_and_their_images_are_those_of_the_model(shown: Any, models: dict[str, Autoencoder]) -> None:
    model: Any = models["grid"]
    test = torch.tensor(shown.evaluate("[...explorer.test[0]]")).view(1, 1, 16, 16)
    with torch.no_grad():
        indices = model.indices(test)
        assert state(shown, GRID).tolist() == model.index_layout.sequences(indices)[0].tolist()
        assert (pixels(shown, GRID) - model.reconstruct(test)).abs().max() < TOLERANCE


def test_a_position_of_an_index_map_gets_the_code_that_is_chosen(shown: Any, models: dict[str, Autoencoder]) -> None:
    before = state(shown, GRID)
    cell = shown.locator(".cell").nth(5)
    cell.click()
    choice = shown.locator(".picker button").nth(1)
    wanted = int(choice.inner_text())
    choice.click()
    after = state(shown, GRID)
    assert np.flatnonzero(before != after).tolist() == [5]
    assert after[5] == wanted == int(cell.inner_text())
    model: Any = models["grid"]
    code = model.codes_at(model.index_layout.from_sequences(torch.tensor(after)[None]))
    with torch.no_grad():
        assert (pixels(shown, GRID) - model.decode(code)).abs().max() < TOLERANCE


def test_moving_over_a_map_decodes_the_code_under_the_pointer(shown: Any, models: dict[str, Autoencoder]) -> None:
    box = shown.locator(".map").first.bounding_box()
    shown.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])
    shown.wait_for_timeout(100)
    code = state(shown, POINT)
    wanted = shown.evaluate(f"explorer.cards[{POINT}].map.plane.at(0.25, 0.75)")
    assert code == pytest.approx(wanted, abs=0.02 * shown.evaluate(f"explorer.cards[{POINT}].map.plane.box.size"))
    with torch.no_grad():
        decoded = models["point"].decode(torch.tensor(code)[None].float())
    assert (pixels(shown, POINT) - decoded).abs().max() < TOLERANCE
    assert shown.evaluate(f"explorer.cards[{POINT}].delay") < 1000


def test_a_plane_of_principal_axes_keeps_what_is_across_it(shown: Any) -> None:
    before = state(shown, CLOUD)
    box = shown.locator(".map").nth(1).bounding_box()
    shown.mouse.move(box["x"] + 30, box["y"] + 30)
    shown.wait_for_timeout(100)
    axes = np.array(shown.evaluate(f"explorer.cards[{CLOUD}].map.plane.directions.map((each) => [...each])"))
    across = np.cross(*axes)
    assert axes @ axes.T == pytest.approx(np.eye(2), abs=1e-5)
    assert across @ (state(shown, CLOUD) - before) == pytest.approx(0, abs=1e-4)
    assert np.abs(state(shown, CLOUD) - before).max() > 0.1


def test_arrow_keys_move_the_code_and_are_followed_by_a_sentence(shown: Any) -> None:
    shown.locator(".map").first.focus()
    before = state(shown, POINT)
    shown.keyboard.press("ArrowRight")
    shown.wait_for_timeout(50)
    once = state(shown, POINT) - before
    assert (once != 0).sum() == 1
    shown.keyboard.press("Shift+ArrowUp")
    shown.wait_for_timeout(900)
    assert once.max() > (state(shown, POINT) - before - once).max() > 0
    spoken = shown.locator("article .spoken").first.inner_text()
    assert spoken.startswith("point: the nearest training image is a ")


def test_a_slider_moves_its_dimension_alone(shown: Any) -> None:
    before = state(shown, CLOUD)
    slider = shown.locator("article").nth(CLOUD).locator("input[type=range]").first
    name = slider.get_attribute("aria-label").split()[0]
    slider.focus()
    shown.keyboard.press("End")
    shown.wait_for_timeout(100)
    after = state(shown, CLOUD)
    dimension = int(name.removeprefix("z"))
    assert np.flatnonzero(np.abs(after - before) > 1e-5).tolist() == [dimension]
    high = shown.evaluate(f"explorer.cards[{CLOUD}].content.sliders[0].high")
    assert after[dimension] == pytest.approx(high, abs=1e-3)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_walk_leads_from_a_to_b(path: str, shown: Any) -> None:
    shown.select_option("#path", path)
    ends = [np.array(shown.evaluate(f"[...explorer.cards[{CLOUD}].ends.{end}.code]")) for end in "ab"]
    for t in (0, 0.25, 1):
        shown.evaluate(f"(explorer.walk.position = {t}, {SETTLED})")
        angle = np.arccos(ends[0] @ ends[1] / np.linalg.norm(ends[0]) / np.linalg.norm(ends[1]))
        parts = np.array([1 - t, t]) if path == "linear" else np.sin([(1 - t) * angle, t * angle]) / np.sin(angle)
        assert state(shown, CLOUD) == pytest.approx(parts @ np.array(ends), abs=1e-4)
    shown.select_option("#path", "linear")


def test_a_random_draw_is_the_same_in_models_of_equal_size_and_says_of_what(shown: Any) -> None:
    shown.click("#draw")
    shown.wait_for_timeout(100)
    assert state(shown, CLOUD).tolist() == state(shown, PRICED).tolist()
    captions = shown.locator(".caption").all_inner_texts()
    assert "drawn from its prior N(0, I)" in captions[CLOUD]
    assert "drawn from a mixture fitted to its codes, as it has no prior" in captions[POINT]
    assert "independently at each position, as it has no prior" in captions[GRID]


def test_a_drawing_gets_the_size_and_place_of_training_images(shown: Any) -> None:
    pen = shown.evaluate("PAGE.images.pen")
    box = shown.locator("#pad").bounding_box()
    shown.mouse.move(box["x"] + 30, box["y"] + 20)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 30, box["y"] + 50, steps=4)
    shown.mouse.up()
    shown.wait_for_timeout(300)
    drawn = np.array(shown.evaluate("[...explorer.ends.a]")).reshape(16, 16)
    rows, columns = np.nonzero(drawn > drawn.max() / 2)
    assert drawn.max() == pytest.approx(pen["level"], abs=0.02)
    assert np.ptp(rows) + 1 == pytest.approx(pen["side"], abs=1)
    assert columns.mean() + 0.5 == pytest.approx(pen["x"], abs=0.6)
    assert np.ptp(columns) + 1 == pytest.approx(pen["width"], abs=1)
    shown.click("#clear")


@pytest.mark.parametrize("paper", [True, False])
def test_a_file_is_inverted_if_it_is_ink_on_paper(paper: bool, shown: Any, tmp_path: Path) -> None:
    from PIL import Image

    ink = np.zeros((200, 300), np.uint8)
    ink[50:130, 200:220] = 255
    Image.fromarray(255 - ink if paper else ink).save(tmp_path / "one.png")
    shown.set_input_files("#file", tmp_path / "one.png")
    shown.wait_for_timeout(300)
    pen, found = shown.evaluate("PAGE.images.pen"), np.array(shown.evaluate("[...explorer.ends.a]")).reshape(16, 16)
    rows, columns = np.nonzero(found > found.max() / 2)
    assert np.ptp(rows) + 1 == pytest.approx(pen["side"], abs=1)
    assert columns.mean() + 0.5 == pytest.approx(pen["x"], abs=0.6)
    assert found[0, 0] == 0


def test_a_file_that_is_no_image_is_refused_in_a_sentence(shown: Any, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    shown.set_input_files("#file", tmp_path / "text.png")
    shown.wait_for_timeout(300)
    assert "text.png is not an image that this browser can read" in shown.inner_text("#state")


def test_the_tour_has_six_steps_that_set_the_page(shown: Any) -> None:
    shown.click("#tour-start")
    titles, texts = [], []
    for step in range(6):
        shown.wait_for_timeout(150)
        titles.append(shown.inner_text("#tour-title"))
        texts.append(shown.inner_text("#tour-text"))
        bright = shown.locator("article:not(.aside)").count()
        assert bright == [4, 1, 1, 1, 2, 2][step]
        if step == 1:
            assert shown.evaluate("[...explorer.cards[0].state]") != shown.evaluate(
                "[...explorer.cards[0].ends.a.code]"
            )
        shown.click("#tour-next")
    assert len(set(titles)) == 6
    assert not [text for text in texts if "not on the page" in text]
    assert "point was trained" in texts[1]
    assert "(recon + 4 kl)" in texts[5]
    assert not shown.locator("#tour").is_visible()
    assert shown.locator("article.aside").count() == 0


def test_a_step_says_what_it_lacks(shown: Any) -> None:
    needs = "explorer.tour.cards = explorer.cards.slice(0, 1)"
    shown.evaluate(f"({needs}, explorer.tour.show(2))")
    assert "needs a model that is not on the page: a VAE, such as model=vae" in shown.inner_text("#tour-text")
    lonely = "explorer.tour.cards = [explorer.cards[0], explorer.cards[1]]"
    shown.evaluate(f"({lonely}, explorer.tour.show(5))")
    assert "two VAEs with equally many dimensions that weigh the KL differently" in shown.inner_text("#tour-text")
    shown.evaluate("(explorer.tour.cards = explorer.cards, explorer.tour.end())")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_a_finger_moves_the_code_and_nothing_is_wider_than_the_screen(
    scheme: str, chromium: Any, page: Path
) -> None:
    size = {"width": 390, "height": 844}
    phone = open_page(chromium, page, viewport=size, has_touch=True, is_mobile=True, color_scheme=scheme)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    before = state(phone, POINT)
    place = phone.locator(".map").first
    place.scroll_into_view_if_needed()
    place.tap(position={"x": 40, "y": 60})
    phone.wait_for_timeout(100)
    assert np.abs(state(phone, POINT) - before).max() > 0
    ink, ground = phone.evaluate(
        "['color', 'backgroundColor'].map((key) => getComputedStyle(document.documentElement)[key])"
    )
    assert (sum_of(ink) > sum_of(ground)) == (scheme == "dark")
    phone.close()


def sum_of(colour: str) -> int:
    return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
