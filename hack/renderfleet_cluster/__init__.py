"""A Kubernetes to develop against: start it, fill it with images, take it away again.

`python -m renderfleet_cluster --help` shows the verbs. Three providers stand behind the same verbs: a cluster that is
already there, kind where a container engine answers, and a local one made of Kubernetes' own programs.
"""
