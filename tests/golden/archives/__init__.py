"""Archives that must decode for ever, with the arrays that they hold."""
