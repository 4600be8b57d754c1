"""Layers shared by the models."""

from sciml.models.layers.activation import ACTIVATIONS, Activation, activation_function
from sciml.models.layers.convolution import Boundary, Convolution, pad

__all__ = ["ACTIVATIONS", "Activation", "Boundary", "Convolution", "activation_function", "pad"]
