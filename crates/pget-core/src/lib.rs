//! Split one object into ranges, fetch them in parallel, deliver them in order: contract, schedule, ring and driver.
