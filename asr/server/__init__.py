"""Recognition over the network: `asr serve`, its protocols and the page."""
