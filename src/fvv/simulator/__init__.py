"""A synthetic patient in a synthetic scanner: arrays in, arrays out, everything from a seed.

`case` follows one examination from the seed to the images. Its steps: `visits` (who is examined when), `anatomy` (the
head), `tissue` (constants, signal equations), `lesions` (strokes and old damage), `brain` (what each point is made of,
and its signal), `scanner` (protocols), `field` (distortion near air), `patient` (these joined: a person in a scanner),
`acquisition` (k-space and console), `files` (folders on disk).

Three places where another source can take over: `anatomy.average_head` gives the `HeadModel` of a person,
`field.draw_field` the `Field` of an examination, `lesions.draw_lesion` the `Lesion` of a stroke.
"""
