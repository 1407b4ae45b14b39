"""Lungbox finds lung opacities on chest radiographs and draws boxes around them.

    import lungbox
    detector = lungbox.load("default")
    findings = detector.predict("radiograph.dcm")

Research use only. Not a medical device; not for diagnosis.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Findings", "__version__", "load"]

if TYPE_CHECKING:
    from lungbox.findings import Findings
    from lungbox.inference.predictor import load


def __getattr__(name: str) -> Any:
    # Imported lazily, so that `import lungbox` and `lungbox --help` stay quick.
    if name == "load":
        from lungbox.inference.predictor import load

        return load
    if name == "Findings":
        from lungbox.findings import Findings

        return Findings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
