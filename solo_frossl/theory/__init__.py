"""The papers' dynamics of learning, computed: loss, gradient descent, equations of the modes, closed forms."""
