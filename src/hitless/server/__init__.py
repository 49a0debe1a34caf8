"""The control plane: one server that knows every provider and every stream."""
