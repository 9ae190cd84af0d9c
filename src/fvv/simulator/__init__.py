"""A digital patient and a digital scanner: arrays in, arrays out, everything drawn from a seed.

`anatomy` and `head` hold the body, `tissue` its constants, `lesions` its strokes and old damage, `scanner` the
protocols, `signal` the physics of contrast, `artefacts` the physics of what goes wrong, `case` the whole examination
and `cohort` who is examined when.
"""
