"""Run an explainer in a process of its own, so that nothing it does can change what others compute.

The process gets copies of model, images and targets, and of the truth only what the explainer declares. It
returns heatmaps as bytes; nothing that it sends is executed.
"""

from explainers.isolation.remote import ForeignError, ProcessEndedError, RemoteMethod, isolated

__all__ = ["ForeignError", "ProcessEndedError", "RemoteMethod", "isolated"]
