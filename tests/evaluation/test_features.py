"""A data set's own classifier tells its classes, is trained once and by itself alone; Inception is never made up."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from vaezoo.data import ImageDataModule
from vaezoo.data.images import Factor
from vaezoo.evaluation import features
from vaezoo.evaluation.features import FeatureExtractor, classifier_features, inception_features
from vaezoo.metrics.generation import frechet_distance
from vaezoo.nn import classifier
from vaezoo.nn.classifier import Classifier

Make = Callable[..., ImageDataModule]


def digits(**settings: object) -> ImageDataModule:
    shared = {"image_size": 8, "channels": 1, "val_size": 297, "test_size": 300}
    return ImageDataModule(source="digits", **{**shared, **settings})  # type: ignore[arg-type]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes: enough to see whether weights are the same."""
    monkeypatch.setattr(classifier, "MOST_EPOCHS", 2)


def made(datamodule: ImageDataModule, folder: Path) -> FeatureExtractor:
    found = classifier_features(datamodule, folder)
    assert isinstance(found, FeatureExtractor), found
    return found


def test_the_classifier_tells_the_digits_and_measures_noise_as_far(tmp_path: Path) -> None:
    datamodule = digits()
    found = made(datamodule, tmp_path)
    assert found.name == "classifier"
    assert found.accuracy is not None
    assert found.accuracy > 0.95
    train, test = (datamodule.examples(1000, split)[0] for split in ("train", "test"))
    real, other = found.extract(train), found.extract(test)
    assert real.shape == (1000, 64)
    assert real.var(0, correction=0).mean().item() == pytest.approx(1, abs=0.1)
    noisy = found.extract((test + 0.3 * torch.randn(test.shape)).clamp(0, 1))
    assert frechet_distance(real, noisy) > 3 * frechet_distance(real, other)


@pytest.mark.usefixtures("quick")
def test_features_have_mean_variance_one_and_the_answers_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = digits().examples(200, "train")
    network = classifier.train_classifier([1, 8, 8], [10], x, y)
    monkeypatch.setattr(classifier, "_rescale", lambda *_: None)
    plain = classifier.train_classifier([1, 8, 8], [10], x, y)
    with torch.no_grad():
        assert network(x).var(0, correction=0).mean().item() == pytest.approx(1, rel=1e-4)
        torch.testing.assert_close(network.heads[0](network(x)), plain.heads[0](plain(x)))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["{folder}/elsewhere", "../../elsewhere", "..", "a\\b", "x" * 300])
def test_a_classifier_is_kept_in_the_cache_whatever_its_data_are_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "train_classifier", lambda *_: Classifier([1, 8, 8], [10]).eval())
    made(digits(name=name.format(folder=tmp_path)), tmp_path / "cache")
    [kept] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept.parent == tmp_path / "cache" / "classifiers"
    monkeypatch.setattr(features, "train_classifier", lambda *_: pytest.fail("it was not read"))
    made(digits(name=name.format(folder=tmp_path)), tmp_path / "cache")


@pytest.mark.usefixtures("quick")
def test_weights_depend_on_the_data_alone_and_touch_no_global_state(tmp_path: Path) -> None:
    first = made(digits(), tmp_path / "a")
    torch.manual_seed(123)
    before = torch.get_rng_state()
    second = made(digits(seed=5, batch_size=7), tmp_path / "b")
    assert torch.equal(before, torch.get_rng_state())
    assert first.version == second.version


@pytest.mark.usefixtures("quick")
def test_a_kept_classifier_is_read_and_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(digits(), tmp_path)
    monkeypatch.setattr(features, "train_classifier", None)
    second = made(digits(), tmp_path)
    assert (second.version, second.accuracy) == (first.version, first.accuracy)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(first.extract(x), second.extract(x))
    assert [path.suffix for path in (tmp_path / "classifiers").iterdir()] == [".pt"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", [lambda kept: kept[:1000], lambda _: b"", lambda _: b"not a checkpoint"])
def test_a_damaged_cache_is_made_again(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    first = made(digits(), tmp_path)
    (path,) = (tmp_path / "classifiers").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        second = made(digits(), tmp_path)
    assert second.version == first.version
    assert "is damaged" in caplog.text
    caplog.clear()
    assert made(digits(), tmp_path).version == first.version
    assert not caplog.text


@pytest.mark.usefixtures("quick")
def test_other_data_have_another_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(digits(), tmp_path)
    for settings in ({"limit": 500}, {"split_seed": 1}, {"binarize": "threshold"}, {"image_size": 12}):
        made(digits(**settings), tmp_path)
    assert len(list((tmp_path / "classifiers").iterdir())) == 5
    monkeypatch.setattr(features, "RECIPE", 99)
    made(digits(), tmp_path)
    assert len(list((tmp_path / "classifiers").iterdir())) == 6


@pytest.mark.usefixtures("quick")
def test_two_folders_of_one_name_and_size_have_two_classifiers(tmp_path: Path) -> None:
    from PIL import Image

    for root, level in (("first", 40), ("second", 90)):
        for label, extra in (("a", 0), ("b", 100)):
            (tmp_path / root / "pictures" / label).mkdir(parents=True)
            for number in range(6):
                image = Image.new("L", (8, 8), level + extra + number)
                image.save(tmp_path / root / "pictures" / label / f"{number}.png")
        datamodule = ImageDataModule(
            source="image_folder",
            root=str(tmp_path / root / "pictures"),
            image_size=8,
            channels=1,
            val_size=2,
            test_size=3,
        )
        made(datamodule, tmp_path)
    assert len(list((tmp_path / "classifiers").iterdir())) == 2


@pytest.mark.usefixtures("quick")
def test_two_processes_may_train_the_same_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one trains, another begins and ends."""
    others, train = [], features.train_classifier

    def interrupted(*arguments: object) -> Classifier:
        monkeypatch.setattr(features, "train_classifier", train)
        others.append(made(digits(), tmp_path))
        return train(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(features, "train_classifier", interrupted)
    first = made(digits(), tmp_path)
    assert [other.version for other in others] == [first.version]
    assert len(list((tmp_path / "classifiers").iterdir())) == 1
    assert made(digits(), tmp_path).version == first.version


@pytest.mark.usefixtures("quick")
def test_nobody_sees_a_file_that_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def fail_half_way(content: object, file: BinaryIO) -> None:
        save(content, file)
        file.truncate(100)
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail_half_way)
    made(digits(), tmp_path)
    assert not list((tmp_path / "classifiers").iterdir())


@pytest.mark.usefixtures("quick")
def test_a_folder_that_cannot_be_written_is_said_and_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "classifiers").write_text("a file in the way")
    with caplog.at_level(logging.WARNING):
        made(digits(), tmp_path)
    assert "cannot be cached" in caplog.text


def test_several_factors_have_a_head_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "MOST_EPOCHS", 1)
    datamodule = ImageDataModule(
        source="sprites", image_size=64, channels=1, val_size=10, test_size=50, limit=256, root=str(tmp_path)
    )
    found = made(datamodule, tmp_path)
    assert isinstance(found.network, Classifier)
    assert [head.out_features for head in found.network.heads] == [3, 6, 40, 32, 32]
    x, y = datamodule.examples(50, "test")
    hits = found.network.hits(x, y)
    assert hits.shape == (50, 5)
    assert found.accuracy == pytest.approx(hits.double().mean().item())
    with torch.no_grad():
        logits = [head(found.network(x)) for head in found.network.heads]
        loss = sum(torch.nn.functional.cross_entropy(part, y[:, k]) for k, part in enumerate(logits)) / 5
        torch.testing.assert_close(found.network.loss(x, y), loss)


def test_without_labels_there_is_a_reason_and_no_classifier(tmp_path: Path) -> None:
    datamodule = digits()
    datamodule.setup()
    datamodule.factors = ()
    assert classifier_features(datamodule, tmp_path) == "digits has no labels to train a classifier on"
    datamodule.factors = (Factor("class", ("only",)),)
    assert classifier_features(datamodule, tmp_path) == "digits has no labels to train a classifier on"


@pytest.mark.parametrize("position", [0, 500])
def test_images_without_a_label_among_others_are_said(tmp_path: Path, position: int) -> None:
    datamodule = digits()
    datamodule.setup()
    datamodule._splits["train"].labels[position] = -1
    assert classifier_features(datamodule, tmp_path) == "some images of digits have no label to train a classifier on"
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 31), (2, 28, 28), (3, 64, 48), (1, 130, 128)])
def test_any_size_and_number_of_channels_has_64_features(shape: tuple[int, int, int]) -> None:
    network = Classifier(shape, [10]).eval()
    assert network(torch.rand(2, *shape)).shape == (2, 64)


def test_features_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    network = Classifier((1, 8, 8), [10]).eval()
    x = torch.rand(13, 1, 8, 8)
    torch.testing.assert_close(
        FeatureExtractor("a", network, "", batch=4).extract(x), FeatureExtractor("a", network, "", batch=99).extract(x)
    )


# Inception -----------------------------------------------------------------------------------------------------------


def test_without_weights_inception_is_a_reason_that_says_what_to_do(tmp_path: Path) -> None:
    reason = inception_features(tmp_path)
    assert isinstance(reason, str)
    assert features.INCEPTION_FILE in reason
    assert str(tmp_path) in reason


def test_other_weights_under_inceptions_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / features.INCEPTION_FILE).write_bytes(b"random")
    reason = inception_features(tmp_path)
    assert isinstance(reason, str)
    assert "damaged" in reason


def test_inception_sees_colour_pixels_between_minus_one_and_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On weights of chance, which only a test may call Inception's."""
    before = torch.get_rng_state()
    network = features.Inception()
    assert torch.equal(before, torch.get_rng_state())
    torch.save(network.body.state_dict(), tmp_path / "weights")
    start = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(features, "INCEPTION_FILE", f"some-{start}.pth")
    (tmp_path / "weights").rename(tmp_path / features.INCEPTION_FILE)
    found = inception_features(tmp_path)
    assert isinstance(found, FeatureExtractor)
    seen = []
    found.network.body.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    assert found.extract(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)).shape == (2, 2048)
    assert seen[0].shape == (2, 3, 299, 299)
    torch.testing.assert_close(seen[0].flatten(1).mean(1), torch.tensor([-1.0, 1.0]))
    assert found.version.startswith(start)
