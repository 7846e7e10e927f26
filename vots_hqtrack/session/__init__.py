"""Interactive session on one video: prompts on any frame, runs in both directions, corrections."""

from vots_hqtrack.session.predictor import InteractivePredictor
from vots_hqtrack.session.state import FrameMasks, SessionState

__all__ = ["FrameMasks", "InteractivePredictor", "SessionState"]
