"""What a render is: the custom resources, their words, and what a runner is told. Imports no other package of ours."""
