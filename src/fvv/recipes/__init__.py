"""What several stages do to one examination or one evaluation: the only floor that joins models, images and files."""
