"""Names in a raw data set of nnU-Net v2 (doi 10.1038/s41592-020-01008-z), written by one stage and read by another."""

IMAGES, LABELS, DATASET, SPLITS = "imagesTr", "labelsTr", "dataset.json", "splits_final.json"
