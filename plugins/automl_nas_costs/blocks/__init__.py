"""The blocks of which the networks of a space consist: finding them, adding them up, counting them."""
