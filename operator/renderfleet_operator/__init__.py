"""The manager: custom resources in, runner Jobs and status out."""
