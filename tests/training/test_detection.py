"""Training of detection networks: targets, outputs, losses of a batch, a run, its predictions."""

import keras
import numpy as np
import pytest
from rich.console import Console

from lungbox.architecture.detection.losses import AnchorLoss
from lungbox.boxes.geometry import as_boxes, iou
from lungbox.datasets.types import Dataset
from lungbox.evaluation.predictions import predict_dataset
from lungbox.inference.predictor import load
from lungbox.training.batches import Batches
from lungbox.training.heads import HEADS, Sample
from lungbox.training.loggers import read_log
from lungbox.training.model import EvaluationModel, check_network, compile_model
from lungbox.training.recipe import RecipeError
from lungbox.training.run import run
from lungbox.training.validation import ValidationScorer
from lungbox.weights.manifest import load_manifest
from tests.small_detectors import registered_detectors
from tests.training.keys import cache_of, checks, labelled, recipe_of, trainee_of
from tests.training.runs import config_of, written

SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def detectors():
    with registered_detectors():
        yield


def stages(side: int = SIDE) -> list[dict]:
    return [{"epochs": 1, "image_size": side}]


def test_a_target_is_boxes_in_0_to_1_and_padding():
    """Of 6 x 8 pixels, the fourth class among others."""
    boxes = as_boxes([(0, 3, 4, 6), (2, 0, 8, 3)])
    sample = Sample(np.zeros((6, 8), np.uint8), 1.0, boxes, np.array([4, 0]))
    for name in ("anchors", "rpn", "rois"):
        shape = HEADS[name].target_shape((99, 13), most_boxes=3)
        assert HEADS[name].target(sample, shape).tolist() == [
            [0, 0.5, 0.5, 1, 4], [0.25, 0, 1, 0.5, 0], [-1] * 5,
        ]  # fmt: skip
        assert HEADS[name].target_shape((99, 13), most_boxes=0) == (1, 5)


def test_batches_of_boxes():
    """Padded to the most boxes of any image; an uncertain image has a weight of 0."""
    three = [(30, 40, 120, 240), (20, 300, 100, 390), (200, 40, 290, 200)]
    images = labelled(0, boxes=three), labelled(1), labelled(2, boxes=[], uncertain=True)
    settings = {"data": {"order": "fixed"}, "batch_size": 4, "stages": stages()}
    recipe = recipe_of(architecture="small_retinanet", **settings)
    outputs = {"anchors": (252, 9), "image": (1,)}
    batches = Batches(cache_of(*images, side=SIDE), recipe, recipe.stages[0], outputs)
    batches.rows = np.array([0, 1, 2])
    _, targets, weights = batches[0]
    assert targets["anchors"].shape == (4, 3, 5)
    size = np.float32([300, 400, 300, 400])
    assert targets["anchors"][0, :, :4] == pytest.approx(np.float32(three) / size)
    assert targets["anchors"][..., 4].tolist() == [[0] * 3, [0, -1, -1], [-1] * 3, [0] * 3]
    assert weights["anchors"].tolist() == [1, 1, 0, 0]


def test_raw_outputs_are_trained_and_decoded_ones_are_predicted():
    network = trainee_of(architecture="small_retinanet", stages=stages())
    assert set(network.outputs) == {"anchors", "image"}
    assert set(network.inference_model.output) == {"boxes", "scores", "image"}
    two_stages = trainee_of(architecture="small_fasterrcnn", stages=stages())
    assert set(two_stages.outputs) == {"rpn", "rois", "image"}
    assert two_stages.outputs["rois"][1] == 4 + 2 + 4
    same = {v.path for v in network.training_model.weights}
    assert same == {v.path for v in network.inference_model.weights}


@checks("loss.box", "loss.box_weight")
def test_keys_of_the_loss_reach_it():
    settings = {"alpha": 0.4, "gamma": 1.5, "box": "smooth_l1", "box_weight": 0.5}
    for architecture, heads in (("small_retinanet", ["anchors"]), ("small_fasterrcnn", ["rpn"])):
        network = trainee_of(architecture=architecture, loss=settings, stages=stages())
        random = np.random.default_rng(1)
        target = np.float32([[[0.1, 0.2, 0.5, 0.7, 0]]])
        for name in heads:
            output = random.normal(size=(1, *network.outputs[name])).astype(np.float32)
            output[..., :4] = network.training_model.predict(
                np.zeros((1, SIDE, SIDE, 1)), verbose=0
            )[name][..., :4]
            found = HEADS[name].loss(recipe_of(loss=settings).loss)(target, output)
            plain = AnchorLoss(0.4, 1.5, "smooth_l1", 0.5)(target, output)
            assert float(found) == pytest.approx(float(plain))
            default = HEADS[name].loss(recipe_of().loss)(target, output)
            assert float(default) != pytest.approx(float(found))
    rois = HEADS["rois"].loss(recipe_of(loss=settings).loss)
    assert (rois.box, rois.box_weight) == ("smooth_l1", 0.5)


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        ("small_retinanet", {"anchors": "class_logits"}),
        ("small_fasterrcnn", {"rpn": "rpn_class_logits", "rois": "roi_class"}),
        ("small_related", {"rpn": "rpn_class_logits", "rois": "roi_class"}),
        ("small_rfcn", {"rpn": "rpn_class_logits", "rois": "roi_class"}),
    ],
)
def test_a_batch_without_boxes_moves_the_class_heads(architecture, layers):
    fast = {"warmup": 0, "learning_rate": 0.01}
    network = trainee_of(architecture=architecture, stages=stages(), optimizer=fast).training_model
    images = np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 1)).astype(np.float32)
    targets = {name: np.full((2, 2, 5), -1, np.float32) for name in layers}
    targets["image"] = np.zeros((2, 1), np.float32)
    before = {name: np.array(network.get_layer(layer).kernel) for name, layer in layers.items()}
    losses = network.train_on_batch(images, targets, return_dict=True)
    for name, layer in layers.items():
        assert losses[f"{name}_loss"] > 0
        assert np.abs(np.array(network.get_layer(layer).kernel) - before[name]).max() > 1e-4


def test_a_teacher_is_refused():
    """Its masks have no boxes to learn."""
    recipe = recipe_of(
        architecture="small_retinanet", stages=stages(), distillation={"teacher": "default"}
    )
    with pytest.raises(RecipeError, match="small_retinanet is a detection network"):
        check_network(recipe)


def test_the_held_out_fold_is_scored_by_the_decoded_boxes():
    """Losses are the training model's; predictions those of the network that is saved."""
    network = trainee_of(architecture="small_retinanet", stages=stages())
    images = [
        labelled(number, boxes=[] if number % 2 else [(30, 40, 120, 240)]) for number in range(5)
    ]
    cache = cache_of(*images, side=SIDE)
    recipe = recipe_of(architecture="small_retinanet", stages=stages())
    scorer = ValidationScorer(network, cache, recipe, recipe.stages[0])
    metrics, outputs = scorer._evaluate()
    pixels = np.stack([cache.images(row) for row in range(5)])[..., None].astype(np.float32)
    expected = network.inference_model.predict(pixels, verbose=0)
    assert outputs.keys() == expected.keys()
    for name, values in expected.items():
        assert outputs[name] == pytest.approx(values, abs=1e-5)
    assert metrics.keys() == {"loss", "anchors_loss", "image_loss"}
    assert metrics["loss"] == pytest.approx(
        metrics["anchors_loss"] + metrics["image_loss"], rel=1e-5
    )
    score = scorer.score()
    assert score.rsna_metric >= 0
    assert np.isnan(score.map)


def test_evaluation_ignores_what_has_no_loss():
    network = trainee_of(architecture="small_retinanet", stages=stages())
    model = EvaluationModel.of(network, recipe_of().loss)
    assert set(model.output) == {"anchors", "image", "boxes", "scores"}
    compile_model(network.training_model, recipe_of().loss, network.optimizer)
    y_pred = {name: np.zeros((1, *y.shape[1:]), np.float32) for name, y in model.output.items()}
    target = {"anchors": np.float32([[[0.1, 0.2, 0.5, 0.7, 0]]]), "image": np.ones((1, 1))}
    trained = {name: y_pred[name] for name in network.outputs}
    expected = network.training_model.compute_loss(y=target, y_pred=trained)
    assert float(model.compute_loss(y=target, y_pred=y_pred)) == pytest.approx(float(expected))


DRAWN = ("architecture=small_retinanet", "validation={ fold = 0, every = 1 }", "optimizer.ema=0",
         "stages=[{ epochs = 8, image_size = 64 }]", "batch_size=8", "data.samples_per_epoch=96",
         "optimizer.learning_rate=5e-3")  # fmt: skip


@pytest.mark.slow
def test_a_run_from_recipe_to_boxes(tmp_path, own_home):
    """Trained, scored, registered with its kind, and predicted: on phantoms that it has not seen,
    most boxes are on opacities."""
    folder = written(tmp_path, 60)
    name = run(config_of(folder, "run", *DRAWN), Console(quiet=True))
    epochs = read_log(folder / "run")
    assert epochs[-1].anchors_loss < 0.6 * epochs[0].anchors_loss
    assert epochs[-1].rsna_metric >= 0
    weights = load_manifest().weights[name]
    assert (weights.kind, weights.class_names) == ("detection", ("lung opacity",))
    from lungbox import datasets

    held_out = datasets.load(folder / "data").folds([0])
    positive = Dataset(tuple(image for image in held_out.images if len(image.boxes)))
    engine = load(name, "keras", 4).engine
    predictions = predict_dataset(positive, engine, tmp_path / "cache")
    ((boxes, scores, _),) = predictions.detections
    best = boxes[np.arange(len(boxes)), scores[..., 0].argmax(axis=1)] * 64
    overlaps = [iou(box[None], image.boxes).max()
                for box, image in zip(best, positive.images, strict=True)]  # fmt: skip
    assert np.median(overlaps) > 0.4


def test_findings_need_a_detection_network():
    recipe = recipe_of(architecture="unet_lite0", data={"task": "findings", "samples_per_epoch": 4})
    with pytest.raises(RecipeError, match=r"data\.task: .* unet_lite0 is a segmentation network"):
        check_network(recipe)


def test_segmentation_networks_have_no_output_of_boxes():
    whole = keras.Model(*(keras.Input((4,)),) * 2)
    assert HEADS["anchors"].auxiliary_output(whole) is None
