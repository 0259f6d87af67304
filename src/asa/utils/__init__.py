"""What the trainer and the commands of the model core need around it: seeds, devices, a byte tokenizer, records of a run."""
