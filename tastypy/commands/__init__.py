"""The commands of `tastypy`: a module for what belongs together, each with an `add` that puts its commands into the parser."""
